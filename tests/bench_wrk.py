"""Load by wrk, which costs next to nothing beside the server."""

import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from tests.bench_load import Driven, Load

SECONDS: Final = 10
BODIES: Final = 5000
"""Different requests that are sent in turn."""
SCRIPT: Final = """
local bodies, number = {}, 0
for line in io.lines("FILE") do bodies[#bodies + 1] = line end
request = function()
  number = number % #bodies + 1
  return wrk.format("POST", "PATH", {["Content-Type"] = "application/json"}, bodies[number])
end
done = function(summary, latency, requests)
  local errors, quantiles = summary.errors, {}
  for percent = 1, 100 do quantiles[percent] = latency:percentile(percent - 0.5) / 1e6 end
  print(string.format(
    '{"failed": %d, "seconds": %f, "requests": %d, "quantiles": [%s]}',
    errors.status + errors.connect + errors.read + errors.timeout,
    summary.duration / 1e6, summary.requests, table.concat(quantiles, ", ")
  ))
end
"""


def wrk_command() -> str:
    """Where wrk is. Raises SystemExit where it is not."""
    if (command := shutil.which("wrk")) is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    return command


def wrk(port: int, load: Load, clients: int) -> Driven:
    """What ``clients`` see that ask one thing after another: a latency at each percentile stands for all."""
    command = wrk_command()
    with tempfile.TemporaryDirectory() as folder:
        bodies, script = Path(folder) / "bodies", Path(folder) / "load.lua"
        bodies.write_bytes(b"\n".join(load.body(number) or b"" for number in range(BODIES)))
        script.write_text(SCRIPT.replace("FILE", str(bodies)).replace("PATH", load.path))
        arguments = ["-t1", f"-c{clients}", f"-d{SECONDS}s", "-s", str(script), f"http://127.0.0.1:{port}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = subprocess.run([command, *arguments], capture_output=True, text=True, check=True)
    said = orjson.loads(re.findall(r"\{.*\}", process.stdout)[-1])
    if said["failed"]:
        raise SystemExit(f"{said['failed']} requests of wrk failed")
    latencies = np.repeat(np.array(said["quantiles"]), max(1, said["requests"] // 100))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Driven(latencies, said["seconds"], busy)
