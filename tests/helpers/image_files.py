"""Image files of several formats, made in memory."""

import io

from coco_files import picture


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def damaged_avif():
    content = encoded(picture(1, 64, 64), "AVIF")
    start = content.find(b"mdat") + 4
    return content[:start] + bytes(len(content) - start)
