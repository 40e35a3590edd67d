from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BerSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BER_SOURCE_UNSPECIFIED: _ClassVar[BerSource]
    BER_SOURCE_REQUEST: _ClassVar[BerSource]
    BER_SOURCE_ESTIMATED: _ClassVar[BerSource]
    BER_SOURCE_PRIOR: _ClassVar[BerSource]
BER_SOURCE_UNSPECIFIED: BerSource
BER_SOURCE_REQUEST: BerSource
BER_SOURCE_ESTIMATED: BerSource
BER_SOURCE_PRIOR: BerSource

class InferRequest(_message.Message):
    __slots__ = ("request_id", "bitstream", "ber_estimate", "erased", "codec", "version", "level", "device", "sequence", "tasks", "top_k", "encoder_hash")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    BITSTREAM_FIELD_NUMBER: _ClassVar[int]
    BER_ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    ENCODER_HASH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    bitstream: bytes
    ber_estimate: float
    erased: _containers.RepeatedCompositeFieldContainer[BitRange]
    codec: str
    version: int
    level: int
    device: str
    sequence: int
    tasks: _containers.RepeatedScalarFieldContainer[str]
    top_k: int
    encoder_hash: bytes
    def __init__(self, request_id: _Optional[str] = ..., bitstream: _Optional[bytes] = ..., ber_estimate: _Optional[float] = ..., erased: _Optional[_Iterable[_Union[BitRange, _Mapping]]] = ..., codec: _Optional[str] = ..., version: _Optional[int] = ..., level: _Optional[int] = ..., device: _Optional[str] = ..., sequence: _Optional[int] = ..., tasks: _Optional[_Iterable[str]] = ..., top_k: _Optional[int] = ..., encoder_hash: _Optional[bytes] = ...) -> None: ...

class BitRange(_message.Message):
    __slots__ = ("first_bit", "bit_count")
    FIRST_BIT_FIELD_NUMBER: _ClassVar[int]
    BIT_COUNT_FIELD_NUMBER: _ClassVar[int]
    first_bit: int
    bit_count: int
    def __init__(self, first_bit: _Optional[int] = ..., bit_count: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("request_id", "results", "ber_used", "ber_source", "times", "advice", "codec", "version", "level", "device", "sequence", "error")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    BER_USED_FIELD_NUMBER: _ClassVar[int]
    BER_SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    ADVICE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    results: _containers.RepeatedCompositeFieldContainer[TaskResult]
    ber_used: float
    ber_source: BerSource
    times: StageTimes
    advice: Advice
    codec: str
    version: int
    level: int
    device: str
    sequence: int
    error: Error
    def __init__(self, request_id: _Optional[str] = ..., results: _Optional[_Iterable[_Union[TaskResult, _Mapping]]] = ..., ber_used: _Optional[float] = ..., ber_source: _Optional[_Union[BerSource, str]] = ..., times: _Optional[_Union[StageTimes, _Mapping]] = ..., advice: _Optional[_Union[Advice, _Mapping]] = ..., codec: _Optional[str] = ..., version: _Optional[int] = ..., level: _Optional[int] = ..., device: _Optional[str] = ..., sequence: _Optional[int] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class TaskResult(_message.Message):
    __slots__ = ("task", "top")
    TASK_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    task: str
    top: _containers.RepeatedCompositeFieldContainer[ClassScore]
    def __init__(self, task: _Optional[str] = ..., top: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ...) -> None: ...

class ClassScore(_message.Message):
    __slots__ = ("index", "label", "confidence")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    confidence: float
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("queue_ms", "decode_ms", "tail_ms", "total_ms")
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    queue_ms: float
    decode_ms: float
    tail_ms: float
    total_ms: float
    def __init__(self, queue_ms: _Optional[float] = ..., decode_ms: _Optional[float] = ..., tail_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class Advice(_message.Message):
    __slots__ = ("level",)
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    level: int
    def __init__(self, level: _Optional[int] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("status", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: str
    message: str
    def __init__(self, status: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class FeedbackRequest(_message.Message):
    __slots__ = ("device", "sequence", "codec", "task", "true_class")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TRUE_CLASS_FIELD_NUMBER: _ClassVar[int]
    device: str
    sequence: int
    codec: str
    task: str
    true_class: int
    def __init__(self, device: _Optional[str] = ..., sequence: _Optional[int] = ..., codec: _Optional[str] = ..., task: _Optional[str] = ..., true_class: _Optional[int] = ...) -> None: ...

class FeedbackResponse(_message.Message):
    __slots__ = ("matched", "correct")
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    CORRECT_FIELD_NUMBER: _ClassVar[int]
    matched: bool
    correct: bool
    def __init__(self, matched: _Optional[bool] = ..., correct: _Optional[bool] = ...) -> None: ...

class ListCodecsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCodecsResponse(_message.Message):
    __slots__ = ("codecs", "refused")
    CODECS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    codecs: _containers.RepeatedCompositeFieldContainer[Codec]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedBundle]
    def __init__(self, codecs: _Optional[_Iterable[_Union[Codec, _Mapping]]] = ..., refused: _Optional[_Iterable[_Union[RefusedBundle, _Mapping]]] = ...) -> None: ...

class RefusedBundle(_message.Message):
    __slots__ = ("path", "reason")
    PATH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    path: str
    reason: str
    def __init__(self, path: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class GetCodecRequest(_message.Message):
    __slots__ = ("codec", "version")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    codec: str
    version: int
    def __init__(self, codec: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Codec(_message.Message):
    __slots__ = ("name", "version", "family", "codec_id", "encoder_hash", "levels", "tasks", "input_height", "input_width", "ber_min", "ber_max", "manifest_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    CODEC_ID_FIELD_NUMBER: _ClassVar[int]
    ENCODER_HASH_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    BER_MIN_FIELD_NUMBER: _ClassVar[int]
    BER_MAX_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    family: str
    codec_id: int
    encoder_hash: bytes
    levels: _containers.RepeatedCompositeFieldContainer[Level]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    input_height: int
    input_width: int
    ber_min: float
    ber_max: float
    manifest_json: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., family: _Optional[str] = ..., codec_id: _Optional[int] = ..., encoder_hash: _Optional[bytes] = ..., levels: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[Task, _Mapping]]] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., ber_min: _Optional[float] = ..., ber_max: _Optional[float] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("number", "symbols", "payload_bytes")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    number: int
    symbols: int
    payload_bytes: int
    def __init__(self, number: _Optional[int] = ..., symbols: _Optional[int] = ..., payload_bytes: _Optional[int] = ...) -> None: ...

class Task(_message.Message):
    __slots__ = ("name", "classes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    name: str
    classes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., classes: _Optional[_Iterable[str]] = ...) -> None: ...
