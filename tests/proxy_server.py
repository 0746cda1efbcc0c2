"""Proxies for tests: one speaks HTTP and CONNECT, one SOCKS5. Every name leads to one loopback port."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "planted-user:planted-pass"
"""What a proxy that wants a login takes."""


@dataclass
class Proxy:
    """`asked` has the place of each connection; `answer` is the status of a CONNECT, `login` whether it wants one."""

    target: int
    login: bool = False
    answer: int = 200
    asked: list[str] = field(default_factory=list)
    port: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, place, _ = head.split(b" ", 2)
        self.asked.append(place.decode())
        wanted = b"proxy-authorization: basic " + base64.b64encode(USER.encode()).lower()
        status = 407 if self.login and wanted not in head.lower() else self.answer
        if status != 200:
            writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
            return
        first = b"" if method == b"CONNECT" else head
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await self._join(reader, writer, first)

    async def serve_socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """RFC 1928 and 1929, names only."""
        await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\x05\x02" if self.login else b"\x05\x00")
        if self.login:
            name = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = b"%b:%b" % (name, password) == USER.encode()
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        kind = (await reader.readexactly(4))[3]
        assert kind == 3, "the name is for the proxy to find"
        host = await reader.readexactly((await reader.readexactly(1))[0])
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host.decode()}:{port}")
        writer.write(b"\x05%b\x00\x01\x00\x00\x00\x00\x00\x00" % (b"\x00" if self.answer == 200 else b"\x02"))
        if self.answer == 200:
            await self._join(reader, writer, b"")

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", self.target)
        outer.write(first)
        try:
            await asyncio.gather(_copy(reader, outer), _copy(inner, writer))
        finally:
            outer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def proxy(
    target: int, kind: str = "http", tls: ssl.SSLContext | None = None, **more: object
) -> AsyncIterator[Proxy]:
    """A proxy of the kind "http" or "socks" on a free port, whose names all lead to the port `target`."""
    one = Proxy(target, **more)  # type: ignore[arg-type]
    serve: Callable[..., Awaitable[None]] = one.serve_socks if kind == "socks" else one.serve_http

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one.tasks.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the test is over
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        for task in one.tasks:
            task.cancel()
        await asyncio.gather(*one.tasks, return_exceptions=True)


def certificates(folder: Path, *names: str) -> tuple[Path, ssl.SSLContext]:
    """The file of a new CA, and what serves TLS for these names with a certificate of its."""
    authority, leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    now = datetime.now(UTC)

    def begun(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        return builder.not_valid_after(now + timedelta(days=1))

    ca = begun(issuer, authority).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(*[False] * 5, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False)
    ca = ca.add_extension(usage, critical=True)
    ca = ca.add_extension(x509.SubjectKeyIdentifier.from_public_key(authority.public_key()), critical=False)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    signed = begun(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), leaf).add_extension(
        alternatives, critical=False
    )
    signed = signed.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False
    )
    encoding = serialization.Encoding.PEM
    file, chain = folder / "ca.pem", folder / "leaf.pem"
    file.write_bytes(ca.sign(authority, hashes.SHA256()).public_bytes(encoding))
    private = leaf.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(private + signed.sign(authority, hashes.SHA256()).public_bytes(encoding))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain)
    return file, context
