"""The HTML report in a real browser: clicked, searched, printed, read without JavaScript, and checked by axe-core.

Needs Chromium and its driver (Debian: ``chromium`` and ``chromium-driver``).
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait
from support.commands import driftcheck
from support.wheels import install, site_packages, virtual_environment

from driftcheck.report.formats import RenderOptions, render
from driftcheck.report.model import Report

pytestmark = pytest.mark.browser

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
WIDE, NARROW = 1280, 360
NAMES = ["diff", "several", "caused", "policed", "single", "equal", "hostile"]


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    service = shutil.which("chromedriver")
    assert browser, "no chromium on PATH"
    assert service, "no chromedriver on PATH"
    options = Options()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(service))
    yield driver
    driver.quit()


@dataclass
class Browser:
    """One report, open."""

    driver: webdriver.Chrome
    address: str

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def shown(self, selector: str) -> list[WebElement]:
        """Those that are laid out: not hidden, and in nothing that is folded."""
        found: list[WebElement] = self.run(
            "return Array.from(document.querySelectorAll(arguments[0])).filter(function (element) {"
            " return element.checkVisibility(); })",
            selector,
        )
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def findings(self) -> list[str]:
        """The codes of the findings that one can see."""
        return [element.text for element in self.shown("[data-item=finding] .rule")]

    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def press(self, *keys: str) -> None:
        for key in keys:
            self.focused().send_keys(key)

    def log(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]
        return found

    def background(self) -> str:
        return str(self.run("return getComputedStyle(document.body).backgroundColor"))


Opens = Callable[..., Browser]


@pytest.fixture
def open_(driver: webdriver.Chrome, tmp_path: Path) -> Opens:
    """Open a report from a file, as somebody who downloaded it would: nothing kept from an earlier one."""

    def opened(report: Report | Path, *, width: int = WIDE, dark: bool = False, scripts: bool = True) -> Browser:
        path = report if isinstance(report, Path) else tmp_path / "report.html"
        if isinstance(report, Report):
            path.write_text(render(report, "html", RenderOptions()), encoding="utf-8")
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        for log in ("browser", "performance"):
            driver.get_log(log)  # type: ignore[no-untyped-call]
        driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "file://", "storageTypes": "local_storage"})
        driver.get(path.as_uri())
        return Browser(driver, path.as_uri())

    return opened


def barriers(page: Browser) -> list[tuple[str, list[str]]]:
    """What axe-core finds fault with: the rule, and some of the places."""
    page.run(AXE.read_text(encoding="utf-8"))
    page.driver.set_script_timeout(120)
    found = page.driver.execute_async_script(
        "var done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations', 'passes']}).then(done, function (e) { done(String(e)); });"
    )
    assert [rule["id"] for rule in found["passes"] if rule["id"] == "color-contrast"]
    return [(rule["id"], [node["html"][:200] for node in rule["nodes"][:5]]) for rule in found["violations"]]


@pytest.mark.parametrize("name", [*NAMES, "huge"])
def test_no_request_leaves_the_page_and_nothing_complains(
    open_: Opens, samples: dict[str, Callable[[], Report]], name: str
) -> None:
    page = open_(samples[name]())
    events = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert asked == [page.address]
    assert page.log("browser") == []


def test_a_hostile_report_runs_nothing(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["hostile"]())
    assert len(page.all("script")) == len(page.all("style")) == 1
    assert page.all("img, iframe, object, embed, link, base") == []
    page.run("document.querySelectorAll('details').forEach(function (entry) { entry.open = true; })")
    assert r"\x1b]0;owned\x07" in page.one("body").text
    assert page.run("return document.title").isprintable()


def test_the_policy_of_the_page_is_in_force(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    """Were something ever to get through, it would not run."""
    page = open_(samples["diff"]())
    ran = page.run(
        "var script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        "document.body.append(script); document.body.setAttribute('onclick', 'window.ran = 2');"
        "document.body.click(); return window.ran;"
    )
    assert ran is None
    blocked = [entry["message"] for entry in page.log("browser")]
    assert len([text for text in blocked if "Content Security Policy" in text]) == 2


def test_the_first_screen_says_what_breaks_and_what_to_type(
    open_: Opens, samples: dict[str, Callable[[], Report]]
) -> None:
    page = open_(samples["diff"]())
    for selector in ("h1", "#LIB001 h3", "#LIB001 .error", "#LIB001 .command"):
        box = page.one(selector).rect
        assert box["y"] + box["height"] < 800
    assert page.one("nav .titles").text.splitlines() == [
        "cv2 needs libGL.so.1, which no directory that the loader searches holds",
        "pandas 2.1.4 needs numpy<2, and numpy 2.1.3 is installed",
    ]
    box = open_(samples["diff"](), width=NARROW).one("h1").rect
    assert box["y"] + box["height"] < 400


def test_filtering_by_impact(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"]())
    everything = page.findings()
    page.one("[data-choose=breaks]").click()
    assert page.findings() == ["LIB001", "PKG001", "PKG004"]
    assert page.one("#matches").text.startswith("3 of 20 findings")
    page.one("[data-choose=slows]").click()
    assert page.findings() == ["LIB001", "PKG001", "ENV002", "PKG004"]
    assert page.one("[data-choose=slows]").get_attribute("aria-pressed") == "true"
    page.one("#clear").click()
    WebDriverWait(page.driver, 10).until(lambda _: page.findings() == everything)
    assert page.one("#matches").text == ""
    assert not page.one("#clear").is_displayed()


def test_searching_unfolds_what_it_finds_and_folds_it_again(
    open_: Opens, samples: dict[str, Callable[[], Report]]
) -> None:
    page = open_(samples["diff"]())
    open_before = len(page.all("details[open]"))
    page.one("#query").send_keys("lib007")
    assert page.findings() == []
    (row,) = page.shown("[data-item=change]")
    assert " ".join(row.text.split()) == "OS packages > lib007 explained by SYS003 7.0-1 7.2-1+deb12u1"
    assert len(page.shown("tr[data-item=row]")) == 1
    page.press(Keys.ESCAPE)
    assert len(page.shown("[data-item=change]")) == 0
    assert len(page.all("details[open]")) == open_before
    page.one("#query").send_keys("CANNOT open libgl")
    assert page.findings() == ["LIB001"]
    page.one("#query").send_keys(" nowhere")
    assert page.findings() == []
    assert page.one("#matches").text.startswith("0 of 20 findings, 0 of ")


def test_a_narrow_screen_keeps_the_choices_until_they_are_wanted(
    open_: Opens, samples: dict[str, Callable[[], Report]]
) -> None:
    page = open_(samples["diff"](), width=NARROW)
    assert page.shown(".choices *") == []
    page.one("#more").click()
    assert page.one("#more").get_attribute("aria-expanded") == "true"
    page.one("[data-choose=breaks]").click()
    assert page.findings() == ["LIB001", "PKG001", "PKG004"]
    assert open_(samples["diff"]()).shown("#more") == []


def test_filtering_by_section(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"]())
    Select(page.one("#section")).select_by_visible_text("variables")
    assert page.findings() == ["ENV002"]
    assert [row.text.split()[0] for row in page.shown("tr[data-item=row]")] == ["LANG", "OMP_NUM_THREADS"]


def test_filtering_by_environment(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["several"]())
    assert page.findings() == ["PKG001", "PKG001", "ENV002"]
    Select(page.one("#target")).select_by_visible_text("node7")
    assert page.findings() == ["PKG001"]
    assert [element.text for element in page.shown("#changes ~ .target h3")] == ["node7"]


def test_a_cause_stays_above_the_effect_that_is_looked_for(
    open_: Opens, samples: dict[str, Callable[[], Report]]
) -> None:
    page = open_(samples["caused"]())
    page.one("#query").send_keys("libGL.so.1")
    assert page.findings() == ["SYS003", "LIB001"]


def test_only_what_differs(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["several"]())
    assert "System" in page.one(".compare").text
    page.one("#differing").click()
    rows = page.shown("tr[data-item=row]")
    assert "System" not in page.one(".compare").text
    assert all(row.find_elements(By.CSS_SELECTOR, ".differs, .missing") for row in rows)


def test_light_and_dark(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"]())
    light = page.background()
    page.one("#theme").click()
    assert page.one("#theme").get_attribute("aria-pressed") == "true"
    dark = page.background()
    sums = [sum(map(int, re.findall(r"\d+", colour))) for colour in (dark, light)]
    assert sums[0] < 120
    assert sums[1] > 600
    page.driver.refresh()
    assert page.background() == dark  # it is kept
    page.one("#theme").click()
    assert page.background() == light
    assert open_(samples["diff"](), dark=True).background() == dark
    assert open_(samples["diff"](), dark=True, scripts=False).background() == dark


def test_copying_a_command(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"]())
    rights = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    page.driver.execute_cdp_cmd("Browser.grantPermissions", rights)
    page.one("#PKG001 .copy").click()
    WebDriverWait(page.driver, 10).until(lambda _: page.one("#said").get_property("textContent") == "Copied.")
    copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[arguments.length - 1])")
    assert copied == "pip install 'numpy==1.26.4'"


def test_without_a_clipboard_the_command_is_copied_by_hand(
    open_: Opens, samples: dict[str, Callable[[], Report]]
) -> None:
    page = open_(samples["diff"]())
    page.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.one("#PKG001 .copy").click()
    assert page.run("return getSelection().toString()") == "pip install 'numpy==1.26.4'"
    assert page.one("#said").get_property("textContent") in {"Copied.", "Selected: copy it with your keyboard."}


def test_by_keyboard(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"]())
    page.press(Keys.TAB)
    assert page.focused().text == "Skip to the findings"
    assert page.focused().rect["y"] >= 0  # it can be seen
    page.press(Keys.ENTER)
    assert page.focused().get_attribute("id") == "findings"
    page.press(Keys.TAB)
    assert page.focused().get_attribute("class") == "copy js-only"
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.press(Keys.TAB, Keys.TAB)
    summary = page.focused()
    assert summary.tag_name == "summary"
    page.press(Keys.ENTER)
    assert page.one("#LIB001 .evidence details").get_attribute("open") == "true"
    page.one("body").send_keys("/")
    assert page.focused().get_attribute("id") == "query"
    page.press("a/b")
    assert page.one("#query").get_property("value") == "a/b"


def test_a_link_opens_what_is_folded(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["caused"]())
    assert not page.one("#PKG007-5 .command").is_displayed()
    page.run("location.hash = '#PKG007-5'")
    WebDriverWait(page.driver, 10).until(lambda _: page.one("#PKG007-5 .command").is_displayed())
    box = page.one("#PKG007-5").rect
    top = page.run("return scrollY")
    assert top <= box["y"] <= top + 800


def test_it_is_printed_whole_and_light(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"](), dark=True)
    closed = page.run("return document.querySelectorAll('details:not([open])').length")
    assert closed > 10
    page.run(
        "addEventListener('beforeprint', function () {"
        " window.left = document.querySelectorAll('details:not([open])').length; })"
    )
    printed = page.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF-")
    assert page.run("return window.left") == 0
    assert page.run("return document.querySelectorAll('details:not([open])').length") == closed
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert page.background() == "rgb(255, 255, 255)"
    assert page.shown(".filter, .tools, .contents, .copy, .skip") == []
    assert page.run("return getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    # Where no script opens them, the style does.
    page.one("#LIB001 .evidence details:not([open])")
    assert page.run("return document.querySelector('#LIB001 .evidence table').checkVisibility()")


def test_it_is_read_without_scripts(open_: Opens, samples: dict[str, Callable[[], Report]]) -> None:
    page = open_(samples["diff"](), scripts=False)
    assert page.shown(".js-only") == []
    assert page.one("h1").text.startswith("2 findings would break inference")
    assert page.findings()[:2] == ["LIB001", "PKG001"]
    assert page.one("#LIB001 .command").text == "apt-get install -y --no-install-recommends libgl1"
    assert not page.one("#LIB001 .evidence table").is_displayed()
    page.one("#LIB001 .evidence summary").click()
    assert page.one("#LIB001 .evidence table").is_displayed()


@pytest.mark.parametrize("name", [*NAMES, "huge"])
def test_a_narrow_screen_scrolls_in_one_direction(
    open_: Opens, samples: dict[str, Callable[[], Report]], name: str
) -> None:
    page = open_(samples[name](), width=NARROW)
    page.run("document.querySelectorAll('details').forEach(function (entry) { entry.open = true; })")
    assert page.run("return document.documentElement.scrollWidth") <= NARROW


@pytest.mark.parametrize(
    ("name", "dark", "width"),
    [
        *((name, dark, WIDE) for name in ("several", "policed", "single", "equal", "caused") for dark in (False, True)),
        ("several", False, NARROW),
        ("caused", True, NARROW),
    ],
)
def test_axe_finds_no_barrier(
    open_: Opens, samples: dict[str, Callable[[], Report]], name: str, dark: bool, width: int
) -> None:
    page = open_(samples[name](), width=width, dark=dark)
    page.run("document.querySelectorAll('details').forEach(function (entry) { entry.open = true; })")
    for more in page.shown("#more"):
        more.click()
    pills = page.all("[data-choose]")
    for pill in pills:
        pill.click()  # their colours are those of the chosen
    assert barriers(page) == []


def test_a_real_comparison(open_: Opens, tmp_path: Path) -> None:
    """Two virtual environments, from the command line to the screen."""
    pythons = [virtual_environment(tmp_path / name) for name in ("good", "bad")]
    for python, version in zip(pythons, ("2.0", "1.0"), strict=True):
        site = site_packages(python)
        install(site, "model", "1.0", requires=["tokens>=2"])
        install(site, "tokens", version)
    file = tmp_path / "report.html"
    references = [f"python:{python}" for python in pythons]
    done = driftcheck("diff", *references, "--format", "html", "-o", file, cwd=tmp_path)
    assert done.code == 1, done.err
    page = open_(file)
    assert page.findings()[0] == "PKG001"
    assert "tokens==2.0" in page.one("#PKG001 .command").text
    page.one("#query").send_keys("tokens version")
    assert "2.0 1.0" in " ".join(page.shown("[data-item=change]")[0].text.split())
    assert barriers(page) == []
    assert page.log("browser") == []
