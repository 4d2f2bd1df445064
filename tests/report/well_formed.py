#!/usr/bin/env python3
"""Holds pages of `bpf2sys report` to rules that browsers forgive: well_formed.py PAGE...

Every element is closed, and in the order in which it was opened. Only elements and attributes that the tool writes are there; no
script, and nothing that is read from elsewhere. Each id is there once, each link leads to one, tables have headers, and headings
leave out no level. Prints what is wrong, a line each.
"""

import html.parser
import re
import sys

VOID = {"br", "meta", "wbr"}
ELEMENTS = VOID | set(
    "a body caption circle code dd details div dl dt footer g h1 h2 h3 head header html li main nav p path pre rect section small "
    "span style summary svg table tbody td text th thead title tr ul".split()
)
ATTRIBUTES = set(
    "aria-describedby aria-label aria-labelledby charset class content cx cy d height href http-equiv id lang name open r role rx scope tabindex "
    "title viewbox width x y".split()
)


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.wrong, self.level = [], [], [], [], 0
        self.style = ""

    def say(self, what):
        self.wrong.append(f"line {self.getpos()[0]}: {what}")

    def handle_starttag(self, tag, attributes):
        if tag not in ELEMENTS:
            self.say(f"element {tag}")
        for name, value in attributes:
            if name not in ATTRIBUTES:
                self.say(f"attribute {name} of {tag}")
            if name == "id":
                self.ids.append(value)
                if not re.fullmatch(r"[a-z0-9-]+", value):
                    self.say(f"id {value}")
            if name == "href":
                self.links.append(value)
        if re.fullmatch("h[1-6]", tag):
            if int(tag[1]) > self.level + 1:
                self.say(f"{tag} below a heading of level {self.level}")
            self.level = int(tag[1])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.say(f"</{tag}> closes {self.open[-1:]}")
        elif tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        if any(ord(c) < 32 and c != "\n" or 0x7F <= ord(c) < 0xA0 for c in data):
            self.say(f"a control character in {data[:60]!r}")

    def handle_comment(self, data):
        self.say("a comment")

    def unknown_decl(self, data):
        self.say("a declaration")

    def finish(self, text):
        self.close()
        if self.open:
            self.say(f"not closed: {self.open}")
        for twice in {id for id in self.ids if self.ids.count(id) > 1} if len(self.ids) != len(set(self.ids)) else []:
            self.say(f"two elements have the id {twice}")
        for link in self.links:
            if not link.startswith("#") or link[1:] not in set(self.ids):
                self.say(f"a link leads to {link}")
                break
        if re.search(r"url\(|@import|expression", self.style):
            self.say("the style reads something")
        if text.count("<table") != text.count("<thead") or "<h1" not in text:
            self.say("a table without headers, or no heading")
        if """content="default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;\"""" not in text:
            self.say("no policy")


def main():
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        page = Page()
        page.feed(text)
        page.finish(text)
        for what in page.wrong[:20]:
            print(f"{path}: {what}")


main()
