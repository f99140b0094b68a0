"""GNU Radio's own OFDM transmitter or receiver as a node of the air; run by the system's Python.

Arguments: where the node sends and hears, the number of packets, and the file for what is received; without
the file it transmits. A packet has 96 bytes, the first two of which are its number.
"""

import sys

import numpy as np
from gnuradio import blocks, digital, gr, zeromq

SIZE, GAP = 96, 400


def waveform(packets):
    numbers = np.arange(packets)
    rows = np.tile(np.arange(SIZE, dtype=np.uint8), (packets, 1))
    rows[:, 0], rows[:, 1] = numbers >> 8, numbers & 255
    flow, sink = gr.top_block(), blocks.vector_sink_c()
    data = blocks.vector_source_b(rows.ravel().tolist(), False)
    tagger = blocks.stream_to_tagged_stream(gr.sizeof_char, 1, SIZE, "packet_length")
    flow.connect(data, tagger, digital.ofdm_tx(packet_length_tag_key="packet_length", rolloff=0), sink)
    flow.run()
    bursts = np.asarray(sink.data(), dtype=np.complex64).reshape(packets, -1)
    bursts /= np.sqrt(np.mean(np.abs(bursts) ** 2))
    return np.pad(bursts, ((0, 0), (GAP, 0))).ravel()


sends_at, hears_at, count, *file = sys.argv[1:]
flow = gr.top_block()
sink = zeromq.rep_sink(gr.sizeof_gr_complex, 1, sends_at, 100, False)
source = zeromq.req_source(gr.sizeof_gr_complex, 1, hears_at, 100, False)
silence = blocks.null_source(gr.sizeof_gr_complex)
if file:
    flow.connect(silence, sink)
    found = blocks.file_sink(gr.sizeof_char, file[0])
    found.set_unbuffered(True)
    flow.connect(source, digital.ofdm_rx(packet_length_tag_key="packet_length"), found)
else:
    sent = waveform(int(count))
    print(sent.size, flush=True)
    packets = blocks.vector_source_c(
        np.concatenate([np.zeros(20_000), sent, np.zeros(200_000)]).tolist(), True
    )
    flow.connect(packets, sink)
    flow.connect(source, blocks.null_sink(gr.sizeof_gr_complex))
flow.run()  # until it is killed
