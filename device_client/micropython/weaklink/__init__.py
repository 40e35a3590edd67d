"""Weaklink on MicroPython: encodes images with integers, sends the bits, reads the answers.

from weaklink import Device, StreamTransport
camera = Device("/digits", StreamTransport(machine.UART(1, 57600, timeout=0)), device=7)
print(camera.infer(image).label)
"""

from .bundle import Bundle
from .device import Answer, Device
from .encoder import Encoder
from .transports import StreamTransport, UdpTransport

__all__ = ["Answer", "Bundle", "Device", "Encoder", "StreamTransport", "UdpTransport"]
__version__ = "0.1.0"
