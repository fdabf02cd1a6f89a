"""What the service says of itself: a status is one of those that readers know."""

import pytest
from pydantic import ValidationError

from app.model_schemas import ArtefactStatus, Readiness


def test_an_artefact_is_waiting_loading_ready_or_failed_with_a_reason() -> None:
    failed = ArtefactStatus(artefact="models/1", status="failed", reason="no manifest.json")
    assert failed.model_dump() == {"artefact": "models/1", "status": "failed", "reason": "no manifest.json"}
    with pytest.raises(ValidationError, match="status"):
        ArtefactStatus.model_validate({"artefact": "models/1", "status": "broken"})


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ValidationError):
        Readiness.model_validate({"ready": True, "surprise": 1})
