import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
K6 = Path(sys.executable).with_name("k6")


@pytest.mark.parametrize("script", sorted((ROOT / "k6").glob("*.js")), ids=lambda path: path.stem)
def test_k6_reads_the_script_and_finds_its_thresholds(script: Path) -> None:
    environment = os.environ | {"K6_NO_USAGE_REPORT": "true", "DURATION": "7s"}
    result = subprocess.run(
        [K6, "inspect", "--include-system-env-vars", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    options = json.loads(result.stdout)
    assert [scenario["duration"] for scenario in options["scenarios"].values()] == ["7s"]
    assert options["thresholds"]["http_req_duration"] == ["p(95)<200"]
    assert options["thresholds"]["http_req_failed"] == ["rate<0.001"]
