"""agent-framework's polling loop for a background response: in memory, nothing stored.

Client and agent have their default options. The loop does not sleep, because a sleep uses almost no CPU.
"""

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient, OpenAIChatOptions

from bench.load import drive
from bench.measure import Meter
from bench.novel import AGENT, INSTRUCTIONS, REQUEST
from bench.stub import OUTPUT_TEXT


async def whole_runs(meter: Meter, *, provider: str, runs: int, in_flight: int) -> None:
    client = OpenAIChatClient[OpenAIChatOptions](model="stub", api_key="bench", base_url=provider)
    agent = Agent[OpenAIChatOptions](client=client, name=AGENT, instructions=INSTRUCTIONS)

    async def run(_number: int) -> None:
        session = agent.create_session()
        response = await agent.run(REQUEST, session=session, options={"background": True})
        while token := response.continuation_token:
            response = await agent.run(
                session=session, options={"background": True, "continuation_token": token}
            )
        assert response.text == OUTPUT_TEXT

    await drive(run, times=min(in_flight, 10), in_flight=in_flight)
    with meter.measuring(count=runs):
        await drive(run, times=runs, in_flight=in_flight)
    await client.client.close()
