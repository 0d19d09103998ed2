"""What remains to be done after several events is the sum of what each one left."""

from shared.core.delivery import CancelResponse, Delivery
from shared.core.life.events import Wake
from shared.core.run import Step
from shared.steps.messages import delivery_message
from shared.steps.transition import Applied
from shared.store.runs import StoredRun
from tests.support.runs import NOW, a_run

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
    assert later.messages == (delivery_message(DELIVERY.clock), STORED.run.id)
    assert Applied(STORED).after(earlier).messages == earlier.messages
