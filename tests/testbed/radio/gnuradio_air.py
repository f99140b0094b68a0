"""GNU Radio's channel model as the air from a ZmqRadio back to itself; run by the system's Python.

Arguments: where the radio sends and hears, noise as a voltage, the carrier offset in cycles per sample.
"""

import sys

from gnuradio import blocks, channels, gr, zeromq

sends_at, hears_at, noise, offset = sys.argv[1:]
AHEAD = 16_384  # GNU Radio holds samples back, and the radio sends no more before it has heard them
flow = gr.top_block()
source = zeromq.req_source(gr.sizeof_gr_complex, 1, sends_at, 100, False)
taps = (1.0, 0.0, 0.4j)
air = channels.channel_model(float(noise), float(offset), 1.0, taps, 1, True)
sink = zeromq.rep_sink(gr.sizeof_gr_complex, 1, hears_at, 100, False)
flow.connect(source, air, blocks.delay(gr.sizeof_gr_complex, AHEAD), sink)
flow.run()  # until it is killed
