"""Where the servers are, from a URL."""

from __future__ import annotations

import pytest

from triocast.settings.redis_address import TLS, Kind, Login, Place, RedisAddress, parse_redis_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("valkey://example.org", RedisAddress(Kind.ONE, (Place("example.org", 6379),))),
        ("redis://[::1]:7000/3", RedisAddress(Kind.ONE, (Place("::1", 7000),), db=3)),
        ("REDIS://h:1?db=2&prefix=mine", RedisAddress(Kind.ONE, (Place("h", 1),), db=2, prefix="mine")),
        ("redis://:p%40ss@h", RedisAddress(Kind.ONE, (Place("h", 6379),), login=Login(None, "p@ss"))),
        ("redis://me:a:b@h", RedisAddress(Kind.ONE, (Place("h", 6379),), login=Login("me", "a:b"))),
        ("rediss://h", RedisAddress(Kind.ONE, (Place("h", 6379),), tls=TLS())),
        ("valkeys://h?cafile=/ca.pem", RedisAddress(Kind.ONE, (Place("h", 6379),), tls=TLS("/ca.pem"))),
        ("unix:///run/r.sock?db=4", RedisAddress(Kind.ONE, (Place(path="/run/r.sock"),), db=4)),
        ("unix://me:pw@/r.sock", RedisAddress(Kind.ONE, (Place(path="/r.sock"),), login=Login("me", "pw"))),
        (
            "redis+sentinel://:pw@a,b:7/main/2?sentinel_password=s",
            RedisAddress(
                Kind.SENTINEL,
                (Place("a", 26379), Place("b", 7)),
                "main",
                2,
                Login(None, "pw"),
                Login(None, "s"),
            ),
        ),
        ("rediss+cluster://a,b:7", RedisAddress(Kind.CLUSTER, (Place("a", 6379), Place("b", 7)), tls=TLS())),
    ],
)
def test_a_url_says_where_and_how(url: str, address: RedisAddress) -> None:
    assert parse_redis_address(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "expected redis://"),
        ("h:6379", "expected redis://"),
        ("redis://a,b", "expected one server"),
        ("redis://h:0", "expected HOST, HOST:PORT"),
        ("redis://h:99999", "expected HOST, HOST:PORT"),
        ("redis://h/x", "number of a database"),
        ("redis://h?dbb=1", "no parameters but cafile"),
        ("redis://h?prefix=a%7Bb", "prefix: expected"),
        ("redis://h?prefix=", "prefix: expected"),
        ("redis+cluster://h/1", "no databases"),
        ("redis+sentinel://h", "name of the primary"),
        ("unix://h/p", "absolute path"),
        ("redis+unix://h/p", "expected redis://"),
        ("redis://", "expected HOST"),
        ("redis://h?password=secret", "no parameters but"),
        ("redis+cluster://a,,b", "expected HOST"),
        ("redis://[::1", "expected HOST"),
        ("redis://h#x", "written %23"),
        ("unix:///", "with three slashes"),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_expected_and_without_the_password(url: str, said: str) -> None:
    scheme, _, rest = url.partition("://")
    with pytest.raises(ValueError, match=said) as refused:
        parse_redis_address(url if not rest else f"{scheme}://me:secret@{rest}")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("sign", "/?#@:[")
def test_a_password_whose_signs_are_not_encoded_is_not_repeated_in_part(sign: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse_redis_address(f"redis://me:left{sign}right@[host")
    assert "left" not in str(refused.value)
    assert "right" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://me:secret@h/2", "redis://h:6379/2"),
        ("rediss://:secret@[::1]", "rediss://[::1]:6379/0"),
        ("unix://:secret@/r.sock", "unix:/r.sock"),
        ("redis+sentinel://:secret@a,b/main?sentinel_password=secret", "redis+sentinel://a:26379,b:26379/main"),
        ("redis+cluster://:secret@a", "redis+cluster://a:6379"),
    ],
)
def test_an_address_is_shown_without_passwords(url: str, shown: str) -> None:
    address = parse_redis_address(url)
    assert str(address) == shown
    assert "secret" not in repr(address)
