"""What a TLS connection to an upstream insists on."""

import ssl
from pathlib import Path

from proxy.config.model import TlsConfig
from proxy.upstream.dial import tls_context
from tests.support.certificates import Certificates


def test_private_ca_need_not_satisfy_the_strict_profile(tmp_path: Path) -> None:
    context = tls_context(TlsConfig(ca=str(Certificates(tmp_path).ca_file)))

    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_certificate_and_name_are_verified_whatever_the_ca(tmp_path: Path) -> None:
    for config in (TlsConfig(), TlsConfig(ca=str(Certificates(tmp_path).ca_file))):
        context = tls_context(config)

        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
