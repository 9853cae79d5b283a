"""A FastAPI route that does nothing with its body, as a process: what HTTP and JSON alone cost."""

import os
from typing import Any

import uvicorn
from fastapi import FastAPI

app = FastAPI()


@app.post("/v1/events")
async def noop(body: dict[str, Any]) -> dict[str, int]:
    return {"events": len(body["events"])}


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["FRESHET_PORT"]), access_log=False, log_level="warning")
