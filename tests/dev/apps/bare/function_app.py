"""One HTTP function, which needs no storage."""

import logging

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
logger = logging.getLogger(__name__)


@app.route(route="work")
def work(req: func.HttpRequest) -> str:
    logger.info("work got %s and %d bytes", req.params.get("mark"), len(req.get_body()))
    return "done"
