"""What is reported of the files themselves: what was applied to show a picture, and what was not read."""

from __future__ import annotations

from genbench.lint.base import Case, Finding, part_of

# By code: what was found of some of the pictures (`{}` is what the reader adds), and what it would make wrong.
OF_PICTURES = {
    "alpha": (
        "are transparent in places and are shown on white",
        "on another background they have other colours, and the value is another",
    ),
    "orientation": (
        "are turned or mirrored by their EXIF orientation, which was applied",
        "programs that ignore it measure them lying on their side",
    ),
    "exif-broken": ("have EXIF tags that cannot be read", "an orientation that they state is not applied"),
    "frames": ("have several frames, of which the first is read", "the other frames are not scored"),
    "profile": (
        "have a colour profile other than sRGB and were converted to sRGB",
        "programs that ignore the profile measure other colours",
    ),
    "profile-ignored": (
        "have a colour profile that cannot be used; they are read as sRGB",
        "a viewer may show other colours than are measured",
    ),
    "gamma": ("state a gamma other than sRGB's, which was applied", "programs that ignore it measure other colours"),
    "primaries": (
        "state primary colours other than sRGB's, which were not applied",
        "a viewer may show other colours than are measured",
    ),
    "cmyk": (
        "are stored in inks (CMYK) without a colour profile and were inverted",
        "every viewer shows other colours for them",
    ),
    "deep": (
        "have more than 8 bits a channel ({})",
        "programs that keep the high byte, or clip, measure other values",
    ),
    "warned": ("were read with a warning: {}", "damaged files may show other pixels elsewhere"),
}  # fmt: skip
OF_SETS = {
    "modes": ("the pictures are of several kinds: {}", "a set that was converted in part measures the conversion"),
    "deep-array": ("{}", "programs that keep the high byte, or clip, measure other values"),
}
NOT_READ = {
    "others": ("no pictures and are not scored", "the value is that of the other files alone"),
    "hidden": ("hidden and are not scored", "the value is that of the other files alone"),
    "repeated": ("links to what is read already", "the number of samples is lower than it looks"),
    "broken-links": ("links that lead nowhere", "the images they stood for are not scored"),
}  # fmt: skip


def of_files(case: Case) -> tuple[Finding, ...]:
    """What is reported of a set's files, in the order of the tables."""
    notes, findings = case.files.notes, []
    for code, (found, wrong) in NOT_READ.items():
        if note := notes.get(code):
            what = f"{note.count:,} files ({note.text}) are {found}, first {note.first}"
            findings.append(Finding(code, what, wrong))
    for code, (found, wrong) in OF_PICTURES.items():
        if note := notes.get(code):
            what = f"{part_of(note.count, case.images.count)} pictures {found.format(note.text)}, first {note.first}"
            findings.append(Finding(code, what, wrong))
    for code, (found, wrong) in OF_SETS.items():
        if note := notes.get(code):
            findings.append(Finding(code, found.format(note.text), wrong))
    return tuple(findings)
