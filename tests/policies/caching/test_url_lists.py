"""What is taken for a URL in the lists that upstreams have."""

import time

import pytest

from proxy.policies.caching.url_lists import listed_urls

SOURCE = "/properties?sort=views&limit=100"


def listed(body: bytes, source: str = SOURCE) -> list[str]:
    return list(listed_urls(body, source))


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        (b'["/a", "/b?x=1", "https://api.test/c"]', ["/a", "/b?x=1", "https://api.test/c"]),
        (b'{"pages": {"first": "/a", "rest": ["/b", {"deep": [["/c"]]}]}}', ["/a", "/b", "/c"]),
        (b'[{"url": "/a"}, {"href": "/b"}, {"path": "/c"}]', ["/a", "/b", "/c"]),
        (b'{"items": [{"id": 1}, {"id": "two"}]}', ["/properties/1", "/properties/two"]),
        (b'[{"id": 1, "agent": {"id": 9}}]', ["/properties/1"]),
        (b'[{"id": 1, "photo": "/photos/1.jpg"}]', ["/properties/1", "/photos/1.jpg"]),
        (b'[{"id": 1, "href": "/listings/1"}]', ["/listings/1"]),
        (b'[{"id": 1, "path": "no path"}]', ["/properties/1"]),
        (b'[1, "two", "a b/c"]', ["/properties/1", "/properties/two", "/properties/a%20b%2Fc"]),
        (b'{"total": 2, "ids": [1, 2], "words": ["a"]}', []),
        (b'[true, null, 1.5, "", {"id": true}, {"id": null}, [], {}]', []),
        (b'  \n {"next": "/b"}', ["/b"]),
        (b'\xef\xbb\xbf["/a"]', ["/a"]),
        (b'{"links": ["//elsewhere.test/a", "ftp://x/a", "http:///a", "a/b"]}', []),
    ],
)  # fmt: skip
def test_json(body: bytes, urls: list[str]) -> None:
    assert listed(body) == urls


@pytest.mark.parametrize("body", [b"", b"   ", b"{", b"[", b'["/a"', b"[NaN]", b'{"a": "\xff"}', b"[" * 2000])
def test_json_that_is_none_lists_nothing(body: bytes) -> None:
    assert listed(body) == []


def test_id_of_a_source_with_a_closing_slash() -> None:
    assert listed(b"[7]", "/properties/") == ["/properties/7"]
    assert listed(b"[7]", "/") == ["/7"]


def test_sitemap() -> None:
    body = b"""<?xml version="1.0" encoding="UTF-8"?>
    <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="http://www.google.com/schemas">
      <url><loc>https://api.test/a?x=1&amp;y=2</loc><lastmod>2024-01-01</lastmod></url>
      <url><loc>
         /b </loc></url>
      <url><loc><![CDATA[https://api.test/c]]></loc><image:image><image:loc>/d.jpg</image:loc></image:image></url>
      <url><location>/not</location><loc>none</loc></url>
    </urlset>"""

    assert listed(body) == ["https://api.test/a?x=1&y=2", "/b", "https://api.test/c", "/d.jpg"]


def test_lines() -> None:
    assert listed(b"# those that matter\r\n/a\r\n\n  /b?x=1  \nhttps://api.test/c\nnone\n//d.test/\n") == [
        "/a",
        "/b?x=1",
        "https://api.test/c",
    ]


@pytest.mark.parametrize(
    "body",
    [b"<loc>" * 200_000, b"<loc" * 250_000, b"<" + b"a:loc " * 170_000, b'{"a":' * 900 + b"1", b"/a\n" * 300_000],
    ids=["open", "unfinished", "names", "deep", "many"],
)  # fmt: skip
def test_hostile_list_is_read_in_time_that_grows_with_its_length(body: bytes) -> None:
    began = time.perf_counter()
    listed(body)

    assert time.perf_counter() - began < 10
