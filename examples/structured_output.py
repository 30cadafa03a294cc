"""Holds answers to a schema: whatever the model and its temperature, what comes back can be parsed."""

import os
from typing import Annotated, Literal

from openai import OpenAI
from pydantic import BaseModel, Field

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)


class Person(BaseModel):
    name: Annotated[str, Field(max_length=12)]
    city: Literal["Lisbon", "Oslo", "Quito"]
    age: Annotated[int, Field(ge=0, le=120)]


def asked(content):
    return {"model": "quire-pico", "messages": [{"role": "user", "content": content}]}


known = asked("Write this as JSON with the keys name, city, age: Mia lives in Lisbon. Mia is 41 years old.")
greedy = client.chat.completions.parse(**known, response_format=Person, temperature=0)
print("told of Mia:   ", repr(greedy.choices[0].message.parsed))

# Nothing to go by, and so hot that it would be nonsense: the values are, the form is not.
unknown = asked("Write somebody as JSON.")
hot = client.chat.completions.parse(**unknown, response_format=Person, temperature=2, n=4)
for choice in hot.choices:
    print("told of nobody:", repr(choice.message.parsed))

# vLLM's fields go into extra_body.
for wanted in ({"choice": ["yes", "no"]}, {"regex": "[A-Z]{2}-[0-9]{4}"}):
    answer = client.chat.completions.create(**unknown, temperature=2, extra_body={"structured_outputs": wanted})
    print(f"{wanted}: {answer.choices[0].message.content}")
