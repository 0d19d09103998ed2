"""TypeScript types that are generated from openapi.json say what a program may rely on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.site import ROOT

PROGRAM = Path(__file__).with_name("program.ts")
WRONG = (
    "const mayBeNull: string = (await read('run_1')).output_text;",
    "const unmetered: number = (await read('run_1')).usage.total_tokens;",
    "if ((await read('run_1')).status === 'done') throw new Error();",
    "start({ agent: 'scripted' });",
    "start({ agent: 'scripted', input: 'Hi', colour: 'red' });",
    "start({ agent: 'scripted', input: 'Hi', caller_calls: 'stop' });",
    "start({ agent: 'scripted', input: 'Hi', tools: [{ type: 'web_search', name: 'a' }] });",
    "answerAll(await read('run_1'), () => ({ approve: 'yes' }));",
    "answerAll(await read('run_1'), () => ({ error: 7 }));",
    "answerAll(await read('run_1'), (call) => ({ output: call.owner }));",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated types."""
    folder = tmp_path_factory.mktemp("types")
    made = _run("openapi-typescript", str(ROOT / "shared/web/openapi.json"), "-o", str(folder / "baton.ts"))
    assert made.returncode == 0, made.stderr
    return folder


def test_a_program_that_uses_the_types_compiles(folder: Path) -> None:
    shutil.copy(PROGRAM, folder)
    compiled = _compile(folder)
    assert compiled.returncode == 0, compiled.stdout


def test_each_wrong_line_is_found(folder: Path) -> None:
    program = PROGRAM.read_text()
    (folder / PROGRAM.name).write_text(program + "".join(f"{line}\n" for line in WRONG))
    first = len(program.splitlines()) + 1
    found = [int(line) for line in re.findall(r"^program\.ts\((\d+),", _compile(folder).stdout, re.MULTILINE)]
    assert found == list(range(first, first + len(WRONG)))


def _compile(folder: Path) -> subprocess.CompletedProcess[str]:
    options = [
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "es2022",
        "--moduleResolution",
        "bundler",
    ]
    return _run("tsc", *options, "--lib", "es2022,dom,dom.iterable", PROGRAM.name, cwd=folder)


def _run(program: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "node_modules/.bin" / program), *arguments]
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=60)
