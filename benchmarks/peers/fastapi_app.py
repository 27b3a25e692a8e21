"""FastAPI as its users write it: pydantic models of the same contract. ``uvicorn fastapi_app:app``."""

from typing import Any

import numpy as np
from fastapi import FastAPI
from model import CODES, FEATURES, session
from pydantic import BaseModel, ConfigDict, create_model

app, running = FastAPI(), session()
fields: Any = {one["name"]: ((float if one["kind"] == "numeric" else str) | None, None) for one in FEATURES}
Row = create_model("Row", __config__=ConfigDict(extra="forbid"), **fields)


class Asked(BaseModel):
    """The request."""

    rows: list[Row]  # type: ignore[valid-type]
    at: float | None = None


class Scored(BaseModel):
    """One row's answer."""

    score: float


class Answer(BaseModel):
    """The rows in the order asked."""

    model: str
    rows: list[Scored]


def encoded(name: str, value: float | str | None) -> float:
    """A value as the model takes it."""
    if CODES[name]:
        return CODES[name].get(value, 0)
    return np.nan if value is None else value


@app.post("/predict")
async def predict(asked: Asked) -> Answer:
    """Score rows."""
    rows = [[encoded(one["name"], getattr(row, one["name"])) for one in FEATURES] for row in asked.rows]
    scores = running.run(["score"], {"features": np.array(rows, np.float32)})[0].ravel().tolist()
    return Answer(model="flight-delay@v1", rows=[Scored(score=score) for score in scores])
