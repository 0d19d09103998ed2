"""What remains to be done after several events is the sum of what each one left."""

import pytest

from shared.core.delivery import CancelResponse, Delivery
from shared.core.life.events import Wake
from shared.core.run import Step
from shared.steps.messages import clock_message
from shared.steps.transition import Applied
from shared.store.runs import StoredRun
from tests.support.client import Client
from tests.support.fakes import answer
from tests.support.log_lines import Line, logged
from tests.support.runs import NOW, a_run
from tests.support.world import World

STORED = StoredRun(a_run(step=Step.CREATE), "etag")
DELIVERY = Delivery(
    run_id=STORED.run.id,
    name="00000001-0",
    content=CancelResponse("default", "resp_1"),
    created_at=NOW,
    due=NOW,
)


def test_the_effects_of_an_earlier_event_remain_to_be_done():
    earlier = Applied(STORED, changed=True, effects=(DELIVERY,))
    later = Applied(STORED, changed=True, effects=(Wake(),)).after(earlier)
    assert later.messages == (clock_message(DELIVERY.clock), STORED.run.id)
    assert Applied(STORED).after(earlier).messages == earlier.messages


@pytest.mark.parametrize(("text", "status"), [("no JSON: a secret", "failed"), ('{"a": 1}', "completed")])
async def test_a_run_that_fails_is_a_warning_without_its_texts(caplog, text, status):
    world = World()
    world.agents.changes = {"structured": True}
    run = (await Client(world.context).start(input="a secret")).json
    world.provider.state["resp_1"] = answer("resp_1", text)
    await world.until_terminal(run["id"])
    expected = [Line("WARNING", "run.failed", {"run_id": run["id"], "code": "output_invalid"})]
    assert logged(caplog, f"run.{status}") == (expected if status == "failed" else [])
    assert "secret" not in caplog.text
