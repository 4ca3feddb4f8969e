"""What a test asks of a running Tidegate, in this process or in its own."""

import json
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import get
from tests.support.settings import complete
from tests.support.waiting import eventually


class Instance:
    """A running Tidegate: its ports, its folder with `policies.yaml` and `access.log`, its metrics."""

    def __init__(self, folder: Path, port: int, admin_port: int) -> None:
        self.folder = folder
        self.port = port
        self.admin_port = admin_port

    @property
    def policies_file(self) -> Path:
        return self.folder / "policies.yaml"

    def write_policies(self, text: str) -> None:
        """Replace the file in one step; listeners stay as they are where the text does not name them."""
        self.write_exactly(self._completed(text))

    def write_exactly(self, text: str) -> None:
        """Replace the file in one step with this text, valid or not."""
        draft = self.folder / "policies.yaml.new"
        draft.write_text(text)
        draft.replace(self.policies_file)

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of all samples of that name which carry these labels; 0.0 when there is none."""
        answer = await get(self.admin_port, "/metrics")
        families = text_string_to_metric_families(answer.body.decode())
        samples = (sample for family in families for sample in family.samples if sample.name == name)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    async def access_log(self, lines: int = 1) -> list[dict[str, Any]]:
        """The parsed access log, as soon as it has that many lines."""
        await eventually(lambda: self._log_text().count("\n") >= lines)
        return [json.loads(line) for line in self._log_text().splitlines()]

    def _completed(self, text: str) -> str:
        return complete(text, self.folder, port=self.port, admin_port=self.admin_port)

    def _log_text(self) -> str:
        file = self.folder / "access.log"
        return file.read_text() if file.exists() else ""
