"""Office documents made of the XML that a test is about."""

import io
import zipfile

_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
NAMESPACES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    f'xmlns:r="{_OFFICE}" xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
    'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
    'xmlns:v="urn:schemas-microsoft-com:vml" xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
)


def package(parts: dict[str, str], relations: dict[str, dict[str, tuple[str, str]]]) -> bytes:
    """Parts by name, and for each part (``""``: the package) what it refers to: id to (kind, target)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        for name, content in parts.items():
            archive.writestr(name, content)
        for part, targets in relations.items():
            folder, _, name = part.rpartition("/")
            lines = "".join(
                f'<Relationship Id="{key}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
                for key, (kind, target) in targets.items()
            )
            archive.writestr(f"{folder}/_rels/{name}.rels".lstrip("/"), f"<Relationships>{lines}</Relationships>")
    return buffer.getvalue()


def word(body: str, **parts: str) -> bytes:
    """A Word document; ``parts`` are the insides of its other parts: ``styles``, ``numbering``, ``footnotes``, ``header`` …"""
    files = {"word/document.xml": f"<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>"}
    targets = {}
    for kind, content in parts.items():
        files[f"word/{kind}.xml"] = f"<w:{kind} {NAMESPACES}>{content}</w:{kind}>"
        targets[f"r{kind}"] = (kind, f"{kind}.xml")
    return package(files, {"": {"r1": ("officeDocument", "word/document.xml")}, "word/document.xml": targets})


def slides(*trees: str, layout: str = "", **parts: str) -> bytes:
    """A presentation of slides by their shapes; every slide refers to the layout, and to each of ``parts`` by its name."""
    files = {
        "ppt/slideLayouts/l1.xml": f"<p:sldLayout {NAMESPACES}><p:cSld><p:spTree>{layout}</p:spTree></p:cSld></p:sldLayout>"
    }
    listed = "".join(f'<p:sldId id="{256 + number}" r:id="r{number}"/>' for number in range(len(trees)))
    files["ppt/presentation.xml"] = f"<p:presentation {NAMESPACES}><p:sldIdLst>{listed}</p:sldIdLst></p:presentation>"
    relations = {"": {"r": ("officeDocument", "ppt/presentation.xml")}, "ppt/presentation.xml": {}}
    for number, tree in enumerate(trees):
        part = f"ppt/slides/s{number}.xml"
        files[part] = f"<p:sld {NAMESPACES}><p:cSld><p:spTree>{tree}</p:spTree></p:cSld></p:sld>"
        relations["ppt/presentation.xml"][f"r{number}"] = ("slide", f"slides/s{number}.xml")
        relations[part] = {"l": ("slideLayout", "../slideLayouts/l1.xml")}
        relations[part] |= {name: (name, f"../other/{name}.xml") for name in parts}
    files |= {f"ppt/other/{name}.xml": content for name, content in parts.items()}
    return package(files, relations)
