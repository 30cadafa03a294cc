"""
What a hub of quire-pico answers to the official Python client: `python-client.py ADDRESS_OF_THE_API CHECK...`
Prints a line for each check: `ok NAME`, or `failed NAME` and why.
"""

import asyncio
import math
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

import openai
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field

URL = sys.argv[1]
MODEL = "quire-pico"
client = OpenAI(base_url=URL, api_key="none", max_retries=0)


def user(content: str) -> list:
    return [{"role": "user", "content": content}]


SUM = {"model": MODEL, "messages": user("What is 17 + 25?"), "temperature": 0}
STORY = {"model": MODEL, "messages": user("Tell me a story about an otter."), "max_tokens": 8}
THOUGHT = {"extra_body": {"chat_template_kwargs": {"enable_thinking": True}}}


class Weather(BaseModel):
    """Get the weather in a city"""

    city: str


class Visit(BaseModel):
    city: Literal["Rome", "Oslo", "Lima"]
    days: Annotated[int, Field(ge=1, le=30)]
    note: Annotated[str, Field(max_length=6)]


def chat():
    answer = client.chat.completions.create(**SUM)
    assert answer.choices[0].message.content == "17 + 25 = 42.", answer
    assert answer.choices[0].finish_reason == "stop", answer
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > usage.completion_tokens > 1, usage


def streams():
    chunks = list(client.chat.completions.create(**SUM, stream=True, stream_options={"include_usage": True}))
    assert len(chunks) > 4, chunks
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "17 + 25 = 42.", text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 1, chunks[-1]
    with client.chat.completions.stream(**SUM) as stream:
        written = [event.delta for event in stream if event.type == "content.delta"]
        assert len(written) > 2 and "".join(written) == text, written
        assert stream.get_final_completion().choices[0].message.content == text


def reasoning():
    deltas = [c.choices[0].delta for c in client.chat.completions.create(**SUM, **THOUGHT, stream=True) if c.choices]
    thought = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert "7 + 5 = 12" in thought and "</think>" not in thought, thought
    assert "".join(delta.content or "" for delta in deltas) == "17 + 25 = 42.", deltas


def tools():
    """The model's own choice, in a stream; then its answer from the result."""
    tool = {"name": "get_weather", "description": Weather.__doc__, "parameters": Weather.model_json_schema()}
    request = {"model": MODEL, "temperature": 0, "tools": [{"type": "function", "function": tool}]}
    messages = user("What is the weather in Oslo?")
    with client.chat.completions.stream(**request, messages=messages) as stream:
        pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        choice = stream.get_final_completion().choices[0]
    [call] = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and call.function.name == "get_weather", choice
    assert "".join(pieces) == call.function.arguments, pieces
    assert Weather.model_validate_json(call.function.arguments) == Weather(city="Oslo"), call
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"weather": "rainy", "temperature": 4}'}
    messages += [choice.message, result]
    answer = client.chat.completions.create(**request, messages=messages).choices[0].message.content
    assert answer == "It is rainy in Oslo, with 4 degrees.", answer


def forced_calls():
    """Arguments held to a model of pydantic, whatever the temperature."""
    messages = user("Plan a visit.")
    forced = {"tools": [openai.pydantic_function_tool(Visit)], "tool_choice": "required", "parallel_tool_calls": False}
    answer = client.chat.completions.parse(model=MODEL, messages=messages, temperature=1.5, **forced)
    message = answer.choices[0].message
    [call] = message.tool_calls
    assert isinstance(call.function.parsed_arguments, Visit), call
    # The message goes back as it is, with what the client read of it.
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "{}"}]
    client.chat.completions.create(model=MODEL, messages=messages, max_tokens=1)


def structured_output():
    hot = {"model": MODEL, "messages": user("Plan a visit."), "temperature": 1.5}
    parsed = client.chat.completions.parse(**hot, response_format=Visit, n=2)
    assert len(parsed.choices) == 2, parsed
    assert all(isinstance(choice.message.parsed, Visit) for choice in parsed.choices), parsed
    picked = client.chat.completions.create(**hot, n=3, extra_body={"guided_choice": ["left", "right"]})
    assert {choice.message.content for choice in picked.choices} <= {"left", "right"}, picked


def completions():
    tokenized = client.post(f"{URL.removesuffix('/v1')}/tokenize", body={"prompt": "Once upon a time"}, cast_to=object)
    ids = tokenized["tokens"]
    asked = {"model": MODEL, "max_tokens": 8, "temperature": 0, "logprobs": 2, "echo": True, "extra_body": {"ignore_eos": True}}
    both = client.completions.create(prompt=[ids, ids + ids], **asked)
    assert [choice.index for choice in both.choices] == [0, 1], both
    for choice, length in zip(both.choices, (len(ids), 2 * len(ids))):
        told = choice.logprobs
        assert choice.text.startswith("Once upon a time"), choice
        assert "".join(told.tokens) == choice.text, told
        assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == length + 8, told
        assert told.token_logprobs[0] is None and told.top_logprobs[0] is None, told
        # Greedy: what was written is the likeliest, and no logprob is above zero.
        for written, top in list(zip(told.token_logprobs, told.top_logprobs))[length:]:
            assert written == max(top.values()) <= 0 and len(top) >= 2, (written, top)


def chat_logprobs():
    asked = client.chat.completions.create(**SUM, logprobs=True, top_logprobs=3)
    content = asked.choices[0].logprobs.content
    assert b"".join(bytes(each.bytes) for each in content).decode().startswith("17 + 25 = 42."), content
    for each in content:
        tops = [top.logprob for top in each.top_logprobs]
        assert len(tops) == 3 and tops == sorted(tops, reverse=True), each
        assert each.top_logprobs[0].token == each.token and each.logprob == tops[0], each


def seeds():
    def texts(seed: int) -> list:
        answer = client.chat.completions.create(**STORY, seed=seed, n=3, temperature=1.2)
        return [choice.message.content for choice in answer.choices]

    first, again, other = texts(1), texts(1), texts(2)
    assert first == again and first != other and len(set(first)) > 1, (first, again, other)


def errors():
    def refusal(**fields) -> openai.APIStatusError:
        try:
            client.chat.completions.create(**{**SUM, **fields})
        except openai.APIStatusError as error:
            return error
        raise AssertionError(f"{fields} was not refused")

    unknown = refusal(model="gpt-none")
    assert isinstance(unknown, openai.NotFoundError) and unknown.code == "model_not_found", unknown
    wrong = refusal(temperature=-1)
    assert isinstance(wrong, openai.BadRequestError) and wrong.param == "temperature", wrong
    assert "temperature" in wrong.message and wrong.type == "invalid_request_error" and wrong.request_id, wrong
    unheard = refusal(extra_body={"no_such_field": 1})
    assert isinstance(unheard, openai.BadRequestError) and unheard.param == "no_such_field", unheard
    schema = {"type": "array", "uniqueItems": True}
    streamed = refusal(stream=True, extra_body={"guided_json": schema})
    assert isinstance(streamed, openai.BadRequestError) and streamed.param == "guided_json", streamed


def models_and_ids():
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).max_model_len > 0
    raw = client.chat.completions.with_raw_response.create
    answer = raw(**{**SUM, "max_tokens": 1}, extra_headers={"x-request-id": "python-1"})
    assert answer.headers["x-request-id"] == "python-1" and answer.parse().choices[0].finish_reason == "length"


def many_at_once():
    async def ask(asynchronous: AsyncOpenAI, a: int, b: int) -> bool:
        messages = user(f"What is {a} + {b}?")
        answer = await asynchronous.chat.completions.create(model=MODEL, messages=messages, temperature=0)
        return answer.choices[0].message.content == f"{a} + {b} = {a + b}."

    async def all_of_them() -> list:
        async with AsyncOpenAI(base_url=URL, api_key="none", max_retries=0) as asynchronous:
            return await asyncio.gather(*(ask(asynchronous, 11 + i, 30 - i) for i in range(4)))

    right = asyncio.run(all_of_them())
    assert right == [True] * 4, right


def embeddings():
    """Of a hub with --runner pooling."""
    texts = ["Where does Mia live?", "A lemon is yellow.", "Where does Mia live?"]
    answer = client.embeddings.create(model=MODEL, input=texts)
    assert [each.index for each in answer.data] == [0, 1, 2] and answer.usage.prompt_tokens > 3, answer
    first, other, again = [each.embedding for each in answer.data]
    assert len(first) == 256 and abs(math.hypot(*first) - 1) < 1e-5 and first == again != other, answer
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(first, plain)) < 1e-7, (first, plain)
    try:
        client.chat.completions.create(**SUM)
    except openai.BadRequestError as error:
        assert "is an embedding model" in error.message, error
    else:
        raise AssertionError("an embedding model chatted")


def outcome(name: str) -> str:
    try:
        globals()[name]()
    except Exception:
        return f"failed {name}: {traceback.format_exc()}"
    return f"ok {name}"


# All at once: the page computes them in one batch.
with ThreadPoolExecutor(16) as pool:
    for line in pool.map(outcome, sys.argv[2:]):
        print(line)
