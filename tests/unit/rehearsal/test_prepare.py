# Complaint: "apt-get install failed", on a machine where pam_tmpdir or a person has set TMPDIR: that folder is not in
# the root that the packages are installed into.

from __future__ import annotations

from todoku.rehearsal.machine.prepare import without_places


def test_packages_are_not_told_of_folders_that_another_root_does_not_have() -> None:
    outside = {"TMPDIR": "/tmp/user/0", "TMP": "/x", "TEMP": "/x", "https_proxy": "http://proxy:3128"}
    assert without_places(outside) == {"https_proxy": "http://proxy:3128"}
