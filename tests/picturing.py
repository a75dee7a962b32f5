"""Takes pictures of the pages of a busy stack: what scripts/screenshots runs."""

import argparse
import base64
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from browsing import open_browser
from observing import wait_until
from playwright.sync_api import Browser, Page
from psycopg_pool import ConnectionPool
from webshop import Shop, remember

from slimtrack.domain.access import Scope
from slimtrack.domain.dead_letter import Selection
from slimtrack.domain.operator_action import OperatorAction
from slimtrack.domain.order import Flow, Status
from slimtrack.local.state import StackState, running_stack
from slimtrack.settings import Settings
from slimtrack.sql.pool import open_pool
from slimtrack.stack.directory import free_ports
from slimtrack.use_cases.access import Access
from slimtrack.use_cases.dead_letters import DeadLetters

#: What the stack does not take over from the environment: it has servers and settings of its own.
_NOT_OURS: Final = ("SLIMTRACK_", "DATABASE_URL", "AMQP_URL", "REDIS_URL")
#: Stages take their time, and the shop's carrier takes the parcels.
_SETTINGS: Final = {
    "SLIMTRACK_API_WORKERS": "1",
    "SLIMTRACK_MAX_RETRIES": "2",
    "SLIMTRACK_STAGE_DELAYS": "3,5,7,5",
    "SLIMTRACK_STAGE_WORK": "in_transit=webshop:book",
    "PYTHONPATH": str(Path(__file__).parent),
}
#: Seconds for which the shop sends orders before the first picture.
_BUSY: Final = 60.0
_SCHEMES: Final = ("light", "dark")
#: Makes a WebP of a PNG.
_SHRINK: Final = """
async (png) => {
    const image = new Image();
    image.src = png;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/webp", 0.72);
}
"""
#: Fonts like those of readers' systems, in the place of a bare one's.
_FONTS: Final = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include>/etc/fonts/fonts.conf</include>
  <match>
    <test name="family" compare="contains"><string>sans</string></test>
    <edit name="family" mode="prepend" binding="strong">
      <string>Inter</string><string>Liberation Sans</string>
    </edit>
  </match>
  <match>
    <test name="family" compare="contains"><string>mono</string></test>
    <edit name="family" mode="prepend" binding="strong">
      <string>JetBrains Mono</string><string>Liberation Mono</string>
    </edit>
  </match>
</fontconfig>
"""


class Reader(NamedTuple):
    """Somebody who looks at pages: language and place, and what the pictures' names end with."""

    locale: str
    timezone_id: str
    suffix: str


_READERS: Final = (
    Reader("en-GB", "Europe/London", ""),
    Reader("pt-BR", "America/Sao_Paulo", "-pt"),
)


class Window(NamedTuple):
    """A window, and how many pixels of the picture one of its pixels is."""

    width: int
    height: int
    scale: float = 1


#: A telephone, a laptop, a wide screen.
_WINDOWS: Final = (Window(360, 740), Window(1280, 800), Window(1920, 1080))
#: The pictures of the README: of which page, in which window.
_README: Final = {
    "overview": Window(1280, 975, 1.5),
    "order": Window(1280, 960, 1.5),
    "parcel": Window(390, 780, 1.5),
}


@contextmanager
def running(folder: Path) -> Iterator[StackState]:
    """Run `slimtrack up` until the end of the block."""
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith(_NOT_OURS)},
        **_SETTINGS,
        "SLIMTRACK_API_BIND": f"127.0.0.1:{free_ports(1)[0]}",
    }
    state, log = folder / "state", folder / "up.log"
    with log.open("wb") as output:
        # In a session of its own: Ctrl-C reaches it from here, when its turn has come.
        process = subprocess.Popen(
            [sys.executable, "-m", "slimtrack", "up", "--state-dir", str(state)],
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while not ((stack := running_stack(state)) and stack.is_ready):
            if process.poll() is not None:
                sys.exit(log.read_text("utf-8"))
            time.sleep(0.1)
        yield stack
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        process.terminate()
        process.wait()


def follow_parcels(stack: StackState, pool: ConnectionPool) -> dict[str, str]:
    """Have parcels that a courier reports on; return their pages, by the pictures' names."""
    access = Access(pool)
    access.create_tenant("atelier", flow=Flow.REPORTED)
    key = access.create_key(tenant="atelier", name="courier", scopes=list(Scope))
    shop = Shop(stack.api_url, key=key)
    delivered = [
        shop.send(
            (Status.PROCESSING, hours + 20),
            (Status.IN_TRANSIT, hours + 14),
            (Status.OUT_FOR_DELIVERY, hours + 4 - hours / 5),
            (Status.DELIVERED, hours),
        )
        for hours in (1.2, 2.5, 3.1, 4.4, 5.3, 6.7)
    ]
    parcel = shop.send(
        (Status.PROCESSING, 19), (Status.IN_TRANSIT, 12.6), (Status.OUT_FOR_DELIVERY, 1.4)
    )
    with pool.connection() as connection:  # all were placed just now, and nobody can report that
        connection.execute(
            "UPDATE order_events SET occurred_at = now() - interval '23 hours 11 minutes'"
            " WHERE sequence = 1 AND order_id = ANY(%s)",
            ([delivered[0]["id"], parcel["id"]],),
        )
    return {
        "find": "/t",
        "parcel": f"/t/{parcel['tracking_code']}",
        "delivered": f"/t/{delivered[0]['tracking_code']}",
        "no-parcel": "/t/SL-0000-0000-0000-1",
    }


def enliven(pool: ConnectionPool) -> dict[str, str]:
    """Wait until there is much to be seen; return where it is, by the pictures' names."""
    letters = DeadLetters(pool, wake_up=lambda: None)
    wrong = Selection(error_type="UnknownPostalCodeError")
    wait_until(lambda: letters.count(wrong))
    mended = next(letters.read(wrong))
    _mend(letters, mended.id)
    time.sleep(_BUSY)
    with pool.connection() as connection:
        # Also in the place of the samples in which the first orders came, all at once.
        ago = _BUSY / 2
        until = datetime.now(UTC) - timedelta(seconds=ago)
        remember(connection, until=until, letters=letters.count(Selection(older_than=ago)))
    (letter,) = letters.read(Selection(error_type="CarrierUnavailableError"), limit=1)
    return {
        "overview": "/dashboard",
        "orders": "/dashboard/orders",
        "order": f"/dashboard/orders/{mended.order_id}",
        "queues": "/dashboard/queues",
        "reconcile": "/dashboard/queues/reconcile",
        "dead-letters": "/dashboard/dead-letters",
        "dead-letter": f"/dashboard/dead-letters/{letter.id}",
        "actions": "/dashboard/actions",
        "resources": "/dashboard/resources",
        "resource": "/dashboard/resources/publisher",
        "logs": "/dashboard/logs",
        "simulate": "/dashboard/simulate",
        "nowhere": "/dashboard/nowhere",
    }


def _mend(letters: DeadLetters, letter_id: int) -> None:
    """Replay a dead letter with what was wrong in it put right."""
    told = OperatorAction(operator="ana.souza", reason="The customer told us the right code.")
    letters.edit(letter_id, payload={"postal_code": "40010-020"}, action=told)
    letters.replay(Selection(ids=(letter_id,)), action=told)


class Camera:
    """Takes pictures of pages of a stack, as an operator sees them."""

    def __init__(self, browser: Browser, *, stack: StackState, folder: Path) -> None:
        self._browser = browser
        self._stack = stack
        self._folder = folder

    @contextmanager
    def look(self, reader: Reader, window: Window, *, scheme: str) -> Iterator[Page]:
        """Open a window, and sign in."""
        context = self._browser.new_context(
            base_url=self._stack.api_url,
            locale=reader.locale,
            timezone_id=reader.timezone_id,
            viewport={"width": window.width, "height": window.height},
            device_scale_factor=window.scale,
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto("/dashboard/sign-in")
        page.locator("#key").fill(self._stack.api_key)
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard")
        yield page
        context.close()

    def take(self, page: Page, path: str, name: str) -> None:
        """Take a picture of a whole page."""
        _show(page, path)
        page.screenshot(path=self._folder / f"{name}.png", full_page=True, animations="disabled")

    def take_small(self, page: Page, path: str, name: str) -> None:
        """Take a picture of a window, in few bytes."""
        _show(page, path)
        taken = base64.b64encode(page.screenshot(animations="disabled")).decode()
        page.goto("about:blank")  # which lets a script of ours run
        small = page.evaluate(_SHRINK, f"data:image/png;base64,{taken}").partition(",")[2]
        (self._folder / f"{name}.webp").write_bytes(base64.b64decode(small))


def _show(page: Page, path: str) -> None:
    page.goto(path)
    if path == "/dashboard":
        page.locator(".plots canvas").nth(3).wait_for()
        page.locator("#failures tbody tr").first.wait_for()
    page.evaluate("document.fonts.ready")
    page.wait_for_timeout(300)


def take_all(camera: Camera, paths: dict[str, str]) -> None:
    """Take a picture of every page, in every window and scheme."""
    for reader in _READERS:
        for window in _WINDOWS:
            for scheme in _SCHEMES:
                with camera.look(reader, window, scheme=scheme) as page:
                    for name, path in paths.items():
                        camera.take(page, path, f"{name}{reader.suffix}-{window.width}-{scheme}")


def take_few(camera: Camera, paths: dict[str, str]) -> None:
    """Take the pictures of the README."""
    for reader in _READERS:
        for name, window in _README.items():
            for scheme in _SCHEMES:
                with camera.look(reader, window, scheme=scheme) as page:
                    camera.take_small(page, paths[name], f"{name}{reader.suffix}-{scheme}")


def main() -> None:
    """Take the pictures that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("docs/pictures"))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="slimtrack-pictures-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, the stack's servers have users of their own
        fonts = folder / "fonts.conf"
        fonts.write_text(_FONTS, "utf-8")
        os.environ["FONTCONFIG_FILE"] = str(fonts)
        with running(folder) as stack, _open_pool(stack) as pool:
            shop = Shop(stack.api_url, key=stack.api_key)
            shop.place(200)
            with shop.busy(), open_browser() as browser:
                paths = follow_parcels(stack, pool) | enliven(pool)
                camera = Camera(browser, stack=stack, folder=asked.folder)
                (take_all if asked.all else take_few)(camera, paths)


def _open_pool(stack: StackState) -> ConnectionPool:
    url = Settings.from_environment(stack.environment).database_url
    return open_pool(url, application_name="pictures", size=2, options={}, timeout=5)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
