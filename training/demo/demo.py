"""``freshet demo``: the platform on this machine, a shopper that shows what it does, and where to go from there."""

import re
import time
from typing import Final, NoReturn

from rich.console import Console

from feature_repo.settings import Settings
from training.demo.airflow_api import AssetEvent
from training.demo.credentials import USER, credentials
from training.demo.dag_chain import CHAIN
from training.demo.platform import running_platform
from training.demo.processes import airflow_url, api_url
from training.demo.screen import Screen
from training.demo.shopper import Shopper, show
from training.demo.shops import Shop

_POLL_SECONDS: Final = 0.5
_SCORE: Final = "NDCG"
"""Begins the names of scores, which both the evaluation and the model tell."""
_FRACTION: Final = re.compile(r"(?<=T\d\d:\d\d:\d\d)\.\d+")
"""Of a second, in a moment."""


def demonstrate(shop: Shop) -> None:
    """Bring the platform up over a shop, play a shopper, and stay until Ctrl-C; then end everything."""
    screen = Screen(Console())
    try:
        _show_off(shop, screen)
    except KeyboardInterrupt:
        screen.say(f"all processes have ended; the state stays in {shop.settings.home}")


def _show_off(shop: Shop, screen: Screen) -> NoReturn:
    started = time.monotonic()
    with running_platform(shop, screen) as platform:
        show_asset_events(platform.make_model_live(), screen)
        shopper = Shopper(platform.api)
        show(shopper.visit(), shopper, screen)
        screen.say(f"\nUp after {time.monotonic() - started:.0f} s.\n\n{_signposts(shop.settings)}")
        while True:
            platform.supervision.require_running()
            time.sleep(_POLL_SECONDS)


def show_asset_events(told: list[AssetEvent], screen: Screen) -> None:
    """Print what DAG runs told of their assets: scores (once), verdict, version."""
    said: set[tuple[str, object]] = set()
    for event in told:
        news = {
            name: _FRACTION.sub("", str(value))
            for name, value in event.extra.items()
            if value not in (None, "") and not (name.startswith(_SCORE) and (name, value) in said)
        }
        said |= set(event.extra.items())
        width = max(map(len, news), default=0)
        screen.say(event.asset)
        for name, text in news.items():
            screen.say(f"    {name:<{width}}  {text}")


def _signposts(settings: Settings) -> str:
    api, airflow = api_url(settings), airflow_url(settings)
    return f"""\
API            {api}/docs
Metrics        {api}/metrics
Airflow        {airflow}   user {USER}, password {credentials(settings).password}
DAGs           {CHAIN[0]} starts {", then ".join(CHAIN[1:])}. Start it with the trigger button (▷) of
               {airflow}/dags/{CHAIN[0]}
Ask            curl -s {api}/v1/recommendations -H 'content-type: application/json' -d '{{"visitor_id": "anna"}}'
Features       feast -c feature_repo feature-views list    (in another shell, after `source .venv/bin/activate`)
Logs           {settings.logs_dir}

Ctrl-C stops everything; the next start goes on from here."""
