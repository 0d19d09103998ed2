"""A provider beside that of the settings."""

from shared.provider import Responses

far = Responses("far", base_url="%FAR_URL%", api_key="%FAR_KEY%", headers={"x-team": "%FAR_TEAM%"})
unused = Responses("unused", base_url="%NOWHERE%")
