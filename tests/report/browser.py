#!/usr/bin/env python3
"""Shows pages in a browser without a window: browser.py PAGE... [--screenshots FOLDER] [--at SELECTOR]

Prints one JSON object: for each page, width and scheme of colours what is wrong. A page is wrong if the browser has anything to say on
its console, if the page is wider than the window, if a link leads to no element, or if the browser reads something else than the page
itself. The browser is driven over the DevTools protocol through a pipe, which needs no library.

Screenshots are for people: a folder for them, and the element that they begin at, over which the pointer is.
"""

import argparse
import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WIDTHS = [1280, 400]
SCHEMES = ["light", "dark"]

# What the page itself can tell, with every part of it unfolded.
MEASURE = """(() => {
  document.querySelectorAll('details').forEach(part => { part.open = true; });
  const root = document.documentElement;
  const wide = [];
  if (root.scrollWidth > root.clientWidth) {
    for (const element of document.querySelectorAll('body *')) {
      const box = element.getBoundingClientRect();
      if (box.right > root.clientWidth + 1 && !element.closest('.scroll, pre') && wide.length < 5) {
        wide.push(`<${element.tagName.toLowerCase()} class="${element.getAttribute('class') || ''}"> ends at ${Math.round(box.right)}`);
      }
    }
    wide.unshift(`the page is ${root.scrollWidth} pixels wide in a window of ${root.clientWidth}`);
  }
  const ids = new Set(Array.from(document.querySelectorAll('[id]'), element => element.id));
  const dead = Array.from(document.querySelectorAll('a[href]'), link => link.getAttribute('href'))
    .filter(target => !target.startsWith('#') || !ids.has(target.slice(1)));
  return { wide, dead: dead.slice(0, 5), height: root.scrollHeight };
})()"""


class Browser:
    """A browser, and what it says."""

    def __init__(self, program, profile):
        to_browser, self.requests = os.pipe()
        self.answers, from_browser = os.pipe()
        # The browser reads from file 3 and writes to file 4.
        place = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            f"--user-data-dir={profile}",
            "--remote-debugging-pipe",
        ]
        self.process = subprocess.Popen(
            ["bash", "-c", place, "browser", *command],
            pass_fds=[to_browser, from_browser],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self.rest = b""
        self.number = 0
        self.events = []

    def read(self):
        while b"\0" not in self.rest:
            more = os.read(self.answers, 1 << 16)
            if not more:
                sys.exit("the browser ended")
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, session=None, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if session:
            request["sessionId"] = session
        data = json.dumps(request).encode() + b"\0"
        while data:
            data = data[os.write(self.requests, data) :]
        while True:
            message = self.read()
            if message.get("id") == self.number:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def wait_for(self, event):
        while all(seen.get("method") != event for seen in self.events):
            self.events.append(self.read())

    def close(self):
        self.ask("Browser.close")
        self.process.wait(timeout=60)


def said(events, url):
    """What is wrong, of what the browser said while it showed a page."""
    for event in events:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            yield f"log: {parameters['entry']['text']}"
        elif method == "Runtime.exceptionThrown":
            yield f"exception: {parameters['exceptionDetails']['text']}"
        elif method == "Runtime.consoleAPICalled":
            yield f"console: {parameters['args'][0].get('value')}"
        elif method == "Network.requestWillBeSent":
            asked = parameters["request"]["url"]
            if asked.split("#")[0] != url and not asked.startswith("data:"):
                yield f"it reads {asked}"


def show(browser, page, width, scheme, screenshot, at):
    url = pathlib.Path(page).resolve().as_uri()
    target = browser.ask("Target.createTarget", url="about:blank")["targetId"]
    session = browser.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(method, **parameters):
        return browser.ask(method, session, **parameters)

    browser.events = []
    for domain in ["Page", "Log", "Runtime", "Network", "DOM"]:
        ask(f"{domain}.enable")
    ask("Emulation.setDeviceMetricsOverride", width=width, height=1400, deviceScaleFactor=1, mobile=False)
    ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    ask("Page.navigate", url=url)
    browser.wait_for("Page.loadEventFired")
    # The page forbids scripts of its own; what is asked here is asked by the browser.
    result = ask("Runtime.evaluate", expression=MEASURE, returnByValue=True)["result"].get("value")
    if result is None:
        sys.exit(f"{page} can't be measured")
    wrong = list(said(browser.events, url)) + result["wide"] + [f"a link leads nowhere: {link}" for link in result["dead"]]
    if screenshot:
        if at:
            find = f"(e => {{ e.scrollIntoView(); const b = e.getBoundingClientRect(); return [b.x + 5, b.y + 5]; }})(document.querySelector({json.dumps(at)}))"
            x, y = ask("Runtime.evaluate", expression=find, returnByValue=True)["result"]["value"]
            ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        picture = ask("Page.captureScreenshot", format="png")["data"]
        screenshot.write_bytes(base64.b64decode(picture))
    browser.ask("Target.closeTarget", targetId=target)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", nargs="+")
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("--at")
    arguments = parser.parse_args()
    program = shutil.which("chromium") or sys.exit("no chromium")
    found = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        for page in arguments.pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    name = f"{pathlib.Path(page).stem}-{width}-{scheme}"
                    picture = arguments.screenshots / f"{name}.png" if arguments.screenshots else None
                    found[name] = show(browser, page, width, scheme, picture, arguments.at)
        browser.close()
    json.dump(found, sys.stdout, indent=1)


main()
