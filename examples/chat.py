"""Asks a question and prints the answer as it is written, its reasoning apart."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)

question = "What is 628 + 157?"
print(f"{'question':11}{question}", end="")
stream = client.chat.completions.create(
    model="quire-pico",
    messages=[{"role": "user", "content": question}],
    temperature=0,
    stream=True,
    stream_options={"include_usage": True},
    extra_body={"chat_template_kwargs": {"enable_thinking": True}},  # what OpenAI's API does not have goes here
)

part = ""
for chunk in stream:
    if chunk.usage:
        usage = chunk.usage
    for choice in chunk.choices:
        reasoning = getattr(choice.delta, "reasoning_content", None)
        for name, text in [("reasoning", reasoning), ("answer", choice.delta.content)]:
            if text:
                print(text if name == part else f"\n{name:11}{text}", end="", flush=True)
                part = name
print(f"\n{'usage':11}{usage.prompt_tokens} tokens of prompt, {usage.completion_tokens} of answer")
