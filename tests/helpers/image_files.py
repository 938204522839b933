"""Image files of several formats, made in memory."""

import io


def encoded(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
