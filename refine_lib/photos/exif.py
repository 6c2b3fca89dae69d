"""The EXIF data of a photo, for its picture turned upright. What need not change stays as the camera wrote it.

EXIF data are laid out as a TIFF file. They are directories of entries. An entry has 12 bytes: a tag, a type, a count, and the
value or the place where the value lies.
"""

import struct

from PIL import Image
from PIL.ExifTags import IFD, Base

HEAD = b"Exif\0\0"  # stands before the data in a JPEG
ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of a number's bytes, by the data's first four
THUMBNAIL = ((Base.JpegIFOffset, Base.JpegIFByteCount), (Base.StripOffsets, Base.StripByteCounts))  # a JPEG, bare pixels

# PICTURES may hold copies of the photo: XMP data, and in 34377 and 37724 an editor's resources and layers. STORAGE are the tags
# of TIFF that tell how pixels are stored, or that a writer is handed by themselves (XMP data, and 34675, the color profile).
PICTURES = {700, 34377, 37724}
STORAGE = PICTURES.union(
    [*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, 317, *range(320, 326)],
    [330, 332, 338, 339, 347, *range(512, 522), *range(529, 533), 34675],
)
# Bytes of a number, by its type. The types that are not listed have one.
TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def upright(data: bytes, size: tuple[int, int]) -> bytes:
    """EXIF data with the size of the upright picture, without orientation and without thumbnail.

    The thumbnail goes because it shows what was in the hole. All else stays where it is. The notes of the camera's maker point
    into the data, and so they can be read as before. Small pictures that a maker hides in its notes are not found, and stay.

    Args:
        data: as a file holds them, with or without ``HEAD``. Empty data come back empty.
        size: (width, height) of the upright picture, in pixels.

    Raises:
        ValueError: where the data are damaged.
    """
    changed = bytearray(data.removeprefix(HEAD))
    if not changed:
        return b""
    try:
        main = _Directory(changed)
        main.set_number(Base.ImageWidth, size[0])
        main.set_number(Base.ImageLength, size[1])
        if IFD.Exif in main.entries:
            details = _Directory(changed, main.numbers(IFD.Exif)[0])
            details.set_number(Base.ExifImageWidth, size[0])
            details.set_number(Base.ExifImageHeight, size[1])
        main.remove_thumbnail()
        for tag in PICTURES & set(main.entries):
            main.blank(main.entries[tag][2])
            main.remove(tag)
        main.remove(Base.Orientation)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise ValueError(f"the EXIF data are damaged: {error}") from error
    return HEAD + bytes(changed)


class _Directory:
    """A directory in EXIF data, at a place, or else the first one.

    ``entries`` is what it held when it was read: for each tag the form of a number ("H" has two bytes, "I" four), how many
    there are, and the slice of the data that they take.
    """

    def __init__(self, data, place=None):
        self.data, self.order = data, ORDERS[bytes(data[:4])]
        self.place = self._read("I", 4)[0] if place is None else place
        self.end = self.place + 2 + 12 * self._read("H", self.place)[0]
        self.entries = dict(map(self._entry, range(self.place + 2, self.end, 12)))

    def _entry(self, place):
        tag, kind, count = self._read("HHI", place)
        length = count * TYPE_BYTES.get(kind, 1)
        start = place + 8 if length <= 4 else self._read("I", place + 8)[0]
        return tag, ("H" if kind == 3 else "I", count, slice(start, start + length))

    def numbers(self, tag):
        """A tag's whole numbers."""
        form, count, content = self.entries[tag]
        return self._read(f"{count}{form}", content.start)

    def set_number(self, tag, value):
        """Changes a tag's number. A tag that is not there, has several, or has no room for it, stays as it is."""
        form, count, content = self.entries.get(tag, ("H", 0, slice(0)))
        if count == 1 and value < 1 << 8 * struct.calcsize(form):
            struct.pack_into(self.order + form, self.data, content.start, value)

    def remove(self, tag):
        """Moves what stands behind a tag's entry up: other entries, and the place of the next directory."""
        for place in range(self.place + 2, self.end, 12):
            if self._read("H", place) == (tag,):
                self.data[place : self.end + 4] = self.data[place + 12 : self.end + 4] + bytes(12)
                self.end -= 12
                struct.pack_into(self.order + "H", self.data, self.place, (self.end - self.place - 2) // 12)
                return

    def remove_thumbnail(self):
        """Blanks the thumbnail and forgets its directory, the next one."""
        if not any(self.data[self.end : self.end + 4]):
            return
        following = _Directory(self.data, self._read("I", self.end)[0])
        for start, length in THUMBNAIL:
            if start in following.entries:  # pixels may lie in strips, each with its place and length
                for place, n in zip(following.numbers(start), following.numbers(length), strict=True):
                    self.blank(slice(place, place + n))
        self.data[self.end : self.end + 4] = bytes(4)

    def blank(self, content):
        """Overwrites the bytes of a picture with zeros."""
        if content.start < self.end + 4 and content.stop > self.place:
            raise ValueError(f"a picture would lie in the directory, from byte {content.start} on")
        self.data[content] = bytes(len(self.data[content]))

    def _read(self, form, place):
        return struct.unpack_from(self.order + form, self.data, place)


def of_tags(tags: Image.Exif) -> bytes:
    """EXIF data made from the tags of a TIFF file. They are empty where the tags describe nothing but its pixels."""
    kept = without_storage(tags)
    kept.pop(Base.Orientation, None)
    return kept.tobytes() if kept else b""


def without_storage(exif: Image.Exif) -> Image.Exif:
    """A copy of tags, to be written into another file, without those that tell how a TIFF file stores its pixels.

    Pillow writes question marks for letters beyond ASCII. As bytes they pass.
    """

    def as_read(values):
        return {tag: v.encode("latin-1") if isinstance(v, str) and not v.isascii() else v for tag, v in values.items()}

    directories = {IFD.Exif, IFD.GPSInfo}
    kept = Image.Exif()
    kept.update(as_read({tag: value for tag, value in exif.items() if tag not in STORAGE | directories}))
    for tag in directories & set(exif):
        directory = kept.get_ifd(tag)
        directory.update(as_read(exif.get_ifd(tag)))
        directory.pop(IFD.Interop, None)  # Pillow would keep the place that it has in the old file
        kept[tag] = directory
    return kept
