"""PDFs made of the marks that a test is about."""

Text = tuple[float, float, str]
"""Left, bottom, words."""


def pdf(*pages: list[Text], fields: list[str] | None = None) -> bytes:
    """Pages of pieces of text in 10 point Helvetica, each drawn by itself in the order given; ``fields`` are annotations of the
    first page: the insides of their dictionaries.
    """
    objects = ["", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"]
    kids: list[int] = []
    marks = list(range(4, 4 + len(fields or [])))
    objects += [f"<< /Type /Annot {each} >>" for each in fields or []]
    for texts in pages:
        drawn = " ".join(f"BT /F1 10 Tf {x} {y} Td ({text}) Tj ET" for x, y, text in texts)
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
        annotations = f"/Annots [{' '.join(f'{mark} 0 R' for mark in marks)}]" if not kids else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {len(objects)} 0 R {annotations} "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        kids.append(len(objects))
    form = f"/AcroForm << /Fields [{' '.join(f'{mark} 0 R' for mark in marks)}] /DR << /Font << /F1 3 0 R >> >> >>"
    objects[0] = f"<< /Type /Catalog /Pages 2 0 R {form if marks else ''} >>"
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>"
    body, places = "%PDF-1.7\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    body += (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return f"{body}startxref\n{body.rindex('xref')}\n%%EOF\n".encode("latin-1")
