"""How much of a conversation is handled at once. Every text has a limit of its own where it is accepted."""

# What lists show of an input.
MAX_EXCERPT_CHARACTERS = 200
# The results of a turn's tool calls that a request holds. What does not fit is replaced by a note.
MAX_RESULTS_BYTES = 4 * 1024 * 1024
# A conversation that is sent without the previous responses: its texts, their brackets and commas, the earlier runs.
# A longer one is not sent.
MAX_REPLAY_BYTES = 16 * 1024 * 1024
MAX_REPLAY_MARKS = 1_000_000
MAX_REPLAY_RUNS = 1_000
# What is read from the storage for a page of a feed, and the texts on it. A page has at least one event.
MAX_FEED_BYTES = 4 * 1024 * 1024
# A page of a transcript. A run that does not fit alone is cut.
MAX_TRANSCRIPT_BYTES = 16 * 1024 * 1024
# A page of calls: their arguments, and the outputs of turns that are read for them. A page has at least one call.
MAX_CALLS_BYTES = 4 * 1024 * 1024
# The output of a turn that is kept, in UTF-8.
MAX_OUTPUT_BYTES = 8 * 1024 * 1024
# The brackets and commas of an answer that is parsed, for an agent with an output type.
MAX_OUTPUT_MARKS = 200_000
# The brackets and commas of a call's arguments in a chat. Others are sent as a text.
MAX_SENT_ARGUMENT_MARKS = 20_000
# What the caller sends as the output of a call, and what a tool may return.
MAX_TOOL_OUTPUT_BYTES = 1024 * 1024
# Why a person refuses a call, or why a call of the caller failed.
MAX_REASON_CHARACTERS = 2_000
