"""TLS on both ends of the support."""

import ssl

import pytest

from tests.support.certificates import Certificates
from tests.support.client import RawClient
from tests.support.steps import reset
from tests.support.upstream import ScriptedUpstream

pytestmark = pytest.mark.both_loops


async def test_upstream_speaks_tls_and_resets(certificates: Certificates) -> None:
    async with ScriptedUpstream(tls=certificates.server_context()) as upstream:
        upstream.on("/x", reset())
        async with RawClient(upstream.port, tls=certificates.client_context()) as client:
            assert (await client.request("GET", "/")).status == 200

            await client.send_request("GET", "/x")
            assert await client.ended_within() == "rst"


async def test_upstream_can_demand_a_client_certificate(certificates: Certificates) -> None:
    context = certificates.client_context()
    context.load_cert_chain(certificates.client_cert, certificates.client_key)
    async with ScriptedUpstream(tls=certificates.server_context(client_cert_required=True)) as upstream:
        async with RawClient(upstream.port, tls=context) as client:
            assert (await client.request("GET", "/")).status == 200
        async with RawClient(upstream.port, tls=certificates.client_context()) as client:
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await client.request("GET", "/")


async def test_unknown_name_is_refused(certificates: Certificates) -> None:
    async with ScriptedUpstream(tls=certificates.server_context("other.test")) as upstream:
        with pytest.raises(ssl.SSLCertVerificationError):
            await RawClient(upstream.port, tls=certificates.client_context()).connect()
