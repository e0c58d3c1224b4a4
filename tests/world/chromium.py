"""Chromium over its debugging pipe (Chrome DevTools Protocol, each message ended by a NUL): pages as a reader's hands
and a screen reader meet them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = Path("/usr/lib/chromium/chromium")
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowDown": 40, "ArrowUp": 38}
_TEXTS = {"Enter": "\r", " ": " "}
_PATIENCE = 30.0


class Chromium:
    """One page of a headless browser. `key` is the one public key that it takes though nobody signed it (the SHA-256 of
    its SubjectPublicKeyInfo); every other certificate is an error, as everywhere."""

    def __init__(
        self, profile: Path, *, language: str, key: bytes, scripts: bool, width: int = 390, height: int = 540
    ) -> None:
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        environment = os.environ | {"LANGUAGE": language, "LC_ALL": "C.UTF-8", "HOME": str(profile)}

        def descriptors() -> None:
            os.dup2(theirs_in, 3)
            os.dup2(theirs_out, 4)

        # Its sandbox needs a user other than root. What it opens here is our own page.
        self._process = subprocess.Popen(
            [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
             "--disable-dev-shm-usage", "--disable-background-networking", f"--user-data-dir={profile}",
             "--disable-features=IsolateSandboxedIframes",  # a frame of ours can be looked into
             f"--ignore-certificate-errors-spki-list={base64.b64encode(key).decode()}",
             f"--accept-lang={language}", "about:blank"],
            env=environment, preexec_fn=descriptors, pass_fds=(theirs_in, theirs_out, 3, 4),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2, mobile=True
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
        raise TimeoutError(method)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            got = os.read(self._in, 1 << 20)
            assert got, "the browser has ended"
            self._rest += got
        one, _, self._rest = self._rest.partition(b"\0")
        parsed: dict[str, Any] = json.loads(one)
        return parsed

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)

    def wait_for(self, words: str) -> str:
        """The page's text, once it has these words."""
        deadline = time.monotonic() + _PATIENCE
        text = ""
        while time.monotonic() < deadline:
            tree = self.call("Accessibility.getFullAXTree")["nodes"]
            text = "\n".join(
                str(node.get("name", {}).get("value", "")) for node in tree if not node.get("ignored")
            )
            if words in text:
                return text
            time.sleep(0.1)
        raise AssertionError(f"waited in vain for {words!r} in:\n{text}")

    def focused(self) -> tuple[str, str]:
        """Role and name of what has the focus, as a screen reader says it."""
        for node in self.call("Accessibility.getFullAXTree")["nodes"]:
            properties = {each["name"]: each["value"].get("value") for each in node.get("properties", ())}
            if properties.get("focused") and node["role"]["value"] != "RootWebArea":
                return str(node["role"]["value"]), str(node["name"]["value"])
        return "", ""

    def press(self, key: str) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key]}
        text = {"text": _TEXTS[key]} if key in _TEXTS else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def tab_to(self, role: str, name: str) -> None:
        """By the keyboard alone, as somebody without a mouse."""
        for _ in range(12):
            self.press("Tab")
            found = self.focused()
            if found[0] == role and name in found[1]:
                return
        raise AssertionError(f"the keyboard does not reach the {role} {name!r}; last: {found}")

    def click(self, role: str, name: str) -> None:
        """With the mouse, in the middle of it."""
        found = [
            node
            for node in self.call("Accessibility.getFullAXTree")["nodes"]
            if not node.get("ignored")
            and node["role"]["value"] == role
            and name in node.get("name", {}).get("value", "")
        ]
        assert found, f"there is no {role} {name!r}"
        which = {"backendNodeId": found[0]["backendDOMNodeId"]}
        self.call("DOM.scrollIntoViewIfNeeded", **which)
        corners = self.call("DOM.getBoxModel", **which)["model"]["content"]
        at = {"x": sum(corners[::2]) / 4, "y": sum(corners[1::2]) / 4, "button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type="mousePressed", **at)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", **at)

    def frame(self) -> tuple[str, int]:
        """What is said in the one frame of the page, once there is anything, and how wide it is, in CSS pixels."""
        frame, nodes = self._frame()
        owner = self.call("DOM.getFrameOwner", frameId=frame)
        box = self.call("DOM.getBoxModel", backendNodeId=owner["backendNodeId"])
        return "\n".join(_said(node) for node in nodes), int(box["model"]["width"])

    def press_in_frame(self, role: str, name: str) -> None:
        """Enter on what is in the frame."""
        nodes = [
            n
            for n in self._frame()[1]
            if not n.get("ignored") and n["role"]["value"] == role and name in _said(n)
        ]
        assert nodes, f"there is no {role} {name!r} in the frame"
        self.call("DOM.focus", backendNodeId=nodes[0]["backendDOMNodeId"])
        self.press("Enter")

    def _frame(self) -> tuple[str, list[dict[str, Any]]]:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for each in self.call("Page.getFrameTree")["frameTree"].get("childFrames", []):
                nodes = self.call("Accessibility.getFullAXTree", frameId=each["frame"]["id"])["nodes"]
                if any(_said(node).strip() for node in nodes):
                    return str(each["frame"]["id"]), nodes
            time.sleep(0.1)
        raise AssertionError("the frame stays empty")

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def save_into(self, folder: Path) -> None:
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def screenshot(self, path: Path) -> None:
        time.sleep(0.3)  # what was pressed is drawn
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def runs_scripts(self) -> bool:
        """Whether one in a page of its own does."""
        self.open("data:text/html,<script>document.title = 'scr' + 'ipted'</script><p>below</p>")
        return "scripted" in self.wait_for("below")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


def _said(node: dict[str, Any]) -> str:
    return str(node.get("name", {}).get("value", ""))
