"""The device: encodes images with integers, sends the bits, reads the answers. NumPy and grpcio only, never torch.

>>> from device_client import Device
>>> with Device("cifar10", "udp", "192.168.1.10:50052", device=7) as camera:  # doctest: +SKIP
...     print(camera.infer(image).label)
horse
"""

from device_client.device import Device
from device_client.encoder import Encoder
from device_client.messages import Answer, Delivery, Request
from device_client.transports import create_transport, transport_names

__all__ = ["Answer", "Delivery", "Device", "Encoder", "Request", "create_transport", "transport_names"]
