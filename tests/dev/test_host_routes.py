import pytest

from dev.host.routes import Route, find_route, in_order

PREFIX = "api"


def route(template: str, *methods: str, function: str = "f") -> Route:
    return Route.parse(function, f"{PREFIX}/{template}", methods)


@pytest.mark.parametrize(
    ("template", "path", "parameters"),
    [
        ("runs", "/api/runs", {}),
        ("runs", "/API/Runs", {}),
        ("runs", "/api/runs/", {}),
        ("runs/{id}", "/api/runs/run_7Xa", {"id": "run_7Xa"}),
        ("runs/{id}", "/api/runs/a%20%C3%A9", {"id": "a é"}),
        ("runs/{id}", "/api/runs/a%2Fb", {"id": "a%2Fb"}),
        ("runs/{id}", "/api/runs/%ff", {"id": "%ff"}),
        ("runs/{id}/cancel", "/api/runs/x/CANCEL", {"id": "x"}),
        ("pages/{n:int}", "/api/pages/12", {"n": "12"}),
        ("pages/{n:int?}", "/api/pages", {}),
        ("files/{*rest}", "/api/files/a/b%20c", {"rest": "a/b c"}),
        ("files/{*rest}", "/api/files", {"rest": ""}),
    ],
)
def test_a_path_matches_its_route(template: str, path: str, parameters: dict[str, str]) -> None:
    assert route(template).match(path) == parameters


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("runs", "/runs"),
        ("runs", "/api/runs/x"),
        ("runs", "/api//runs"),
        ("runs/{id}", "/api/runs"),
        ("runs/{id}", "/api/runs//"),
        ("runs/{id}", "/api/runs/a/b"),
        ("pages/{n:int}", "/api/pages/x"),
        ("pages/{n:guid}", "/api/pages/12"),
    ],
)
def test_a_path_does_not_match_another_route(template: str, path: str) -> None:
    assert route(template).match(path) is None


def test_without_a_prefix_the_root_is_a_route() -> None:
    assert Route.parse("f", "").match("/") == {}


def test_the_first_function_in_the_alphabet_wins() -> None:
    routes = in_order([route("runs/{id}", function="B"), route("runs/mine", function="a")])
    found = find_route(routes, "GET", "/api/runs/mine")
    assert found is not None
    assert found[0].function == "a"


def test_a_route_with_another_method_is_skipped() -> None:
    routes = in_order([route("runs", "GET", function="a"), route("runs", "POST", function="b")])
    found = find_route(routes, "post", "/api/runs")
    assert found is not None
    assert found[0].function == "b"
    assert find_route(routes, "PUT", "/api/runs") is None


def test_a_route_without_methods_accepts_all_methods() -> None:
    assert find_route([route("runs")], "PROPFIND", "/api/runs")


@pytest.mark.parametrize(
    "template", ["{a}-{b}", "{id:regex(x)}", "{id:length(3)}", "{id?}/tail", "{", "{a=1}"]
)
def test_a_route_that_cannot_be_matched_is_refused(template: str) -> None:
    with pytest.raises(ValueError):
        route(template)
