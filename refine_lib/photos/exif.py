"""The EXIF data of a photo, for its picture turned upright: what need not change stays as the camera wrote it.

EXIF data are laid out as a TIFF file: directories of entries of 12 bytes, each a tag, a type, a count, and its value or the
place where that lies.
"""

import struct

from PIL import Image
from PIL.ExifTags import IFD, Base

HEAD = b"Exif\0\0"  # stands before the data in a JPEG
ORDERS = {b"II*\0": "<", b"MM\0*": ">"}  # of a number's bytes, by the data's first four
SHORT = 3  # the type of a number of two bytes; the others that are looked at here have four
THUMBNAIL = ((Base.JpegIFOffset, Base.JpegIFByteCount), (Base.StripOffsets, Base.StripByteCounts))  # a JPEG, bare pixels

# Tags of TIFF that tell how pixels are stored, or are handed to a writer by themselves (700, XMP data, and 34675, the colour
# profile). PICTURES may hold copies of the photo: XMP data, and in 34377 and 37724 an editor's resources and layers.
STORAGE = {*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294), 297, 301, 317, *range(320, 326)}
PICTURES = {700, 34377, 37724}
STORAGE |= {330, 332, 338, 339, 347, *range(512, 522), *range(529, 533), 34675} | PICTURES
# Bytes that a number takes, by its type; those of the other types take one.
SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def upright(data, size):
    """EXIF data without orientation and without thumbnail (it shows what was in the hole), with the picture's new size.

    All else stays where it is, so that the notes of the camera's maker, which point into the data, can be read as before. What
    small pictures a maker hides in its notes is not known, and stays too.

    Args:
        data: as a file holds them, with or without ``HEAD``; empty are none.
        size: (width, height) of the upright picture, in pixels.

    Raises:
        ValueError: where the data are damaged.
    """
    data = bytearray(data.removeprefix(HEAD))
    if not data:
        return b""
    try:
        main = _Directory(data)
        if IFD.Exif in main.entries:
            details = _Directory(data, main.value(IFD.Exif))
            details.set_value(Base.ExifImageWidth, size[0])
            details.set_value(Base.ExifImageHeight, size[1])
        main.remove_thumbnail()
        for tag in PICTURES:
            main.blank(tag)
        main.remove(Base.Orientation)
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise ValueError(f"the EXIF data are damaged: {error}") from error
    return HEAD + bytes(data)


class _Directory:
    """A directory in EXIF data: ``entries`` tells where the entry of a tag lies. Without a place it is the first one."""

    def __init__(self, data, place=None):
        self.data, self.order = data, ORDERS[bytes(data[:4])]
        place = self._number("I", 4) if place is None else place
        self.place, self.end = place, place + 2 + 12 * self._number("H", place)
        self.entries = {self._number("H", entry): entry for entry in range(place + 2, self.end, 12)}

    def value(self, tag):
        """A tag's value, or the first of several."""
        return self.values(tag)[0]

    def values(self, tag):
        """A tag's whole numbers, which lie in its entry where they are few."""
        return struct.unpack_from(f"{self.order}{self._count(tag)}{self._form(tag)}", self.data, self._where(tag).start)

    def set_value(self, tag, value):
        """Changes a tag's value; a tag that is not there, has several, or has no room for it, stays as it is."""
        if tag in self.entries and self._count(tag) == 1:
            if value < 1 << 8 * struct.calcsize(self._form(tag)):
                struct.pack_into(self.order + self._form(tag), self.data, self.entries[tag] + 8, value)

    def blank(self, tag):
        """Removes a tag's entry, and what it holds."""
        if tag in self.entries:
            self._blank(self._where(tag))
            self.remove(tag)

    def remove(self, tag):
        """Moves what stands behind a tag's entry up: other entries, and the place of the next directory."""
        entry = self.entries.pop(tag, None)
        if entry is not None:
            self.data[entry : self.end + 4] = self.data[entry + 12 : self.end + 4] + bytes(12)
            struct.pack_into(self.order + "H", self.data, self.place, (self.end - self.place - 2) // 12 - 1)

    def remove_thumbnail(self):
        """Blanks the thumbnail and forgets its directory, the next one."""
        if not any(self.data[self.end : self.end + 4]):
            return
        following = _Directory(self.data, self._number("I", self.end))
        for start, length in THUMBNAIL:
            if start in following.entries:  # pixels may lie in strips, each with its place and length
                for place, n in zip(following.values(start), following.values(length), strict=True):
                    self._blank(slice(place, place + n))
        self.data[self.end : self.end + 4] = bytes(4)

    def _blank(self, there):
        if there.start < self.end + 4 and there.stop > self.place:
            raise ValueError(f"a picture would lie in the directory, from byte {there.start} on")
        self.data[there] = bytes(len(self.data[there]))

    def _where(self, tag):
        """The bytes of a tag's values: four or fewer stand in its entry, else it says where they begin."""
        length = self._count(tag) * SIZES.get(self._type(tag), 1)
        start = self.entries[tag] + 8
        start = start if length <= 4 else self._number("I", start)
        return slice(start, start + length)

    def _form(self, tag):
        return "H" if self._type(tag) == SHORT else "I"

    def _type(self, tag):
        return self._number("H", self.entries[tag] + 2)

    def _count(self, tag):
        return self._number("I", self.entries[tag] + 4)

    def _number(self, form, place):
        return struct.unpack_from(self.order + form, self.data, place)[0]


def of_tags(tags):
    """EXIF data made from the tags of a TIFF file, an ``Exif`` of Pillow; none where nothing but its pixels is described."""
    kept = without_storage(tags)
    kept.pop(Base.Orientation, None)
    return kept.tobytes() if kept else b""


def without_storage(exif):
    """A copy of Pillow's ``Exif`` without the tags that tell how a TIFF file stores its pixels, to be written into another.

    Pillow writes question marks for letters beyond ASCII; as bytes they pass.
    """

    def as_read(values):
        return {tag: v.encode("latin-1") if isinstance(v, str) and not v.isascii() else v for tag, v in values.items()}

    kept = Image.Exif()
    kept.update(as_read({tag: value for tag, value in exif.items() if tag not in STORAGE | {IFD.Exif, IFD.GPSInfo}}))
    for tag in {IFD.Exif, IFD.GPSInfo} & set(exif):
        directory = kept.get_ifd(tag)
        directory.update(as_read(exif.get_ifd(tag)))
        directory.pop(IFD.Interop, None)  # Pillow would keep the place that it has in the old file
        kept[tag] = directory
    return kept
