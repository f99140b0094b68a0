"""A node of the air made of GNU Radio's own blocks; run by the system's Python, see test_gnuradio.py.

Arguments: the addresses at which it sends and hears, the frequency of the tone that it sends in cycles per
sample, the number of samples to hear, and the file for them.
"""

import sys

from gnuradio import analog, blocks, gr, zeromq

sends_at, hears_at, cycles, count, path = sys.argv[1:]
flow = gr.top_block()
sink = zeromq.rep_sink(gr.sizeof_gr_complex, 1, sends_at, 100, False)
source = zeromq.req_source(gr.sizeof_gr_complex, 1, hears_at, 100, False)
flow.connect(analog.sig_source_c(1.0, analog.GR_COS_WAVE, float(cycles), 0.5), sink)
heard = blocks.head(gr.sizeof_gr_complex, int(count))
flow.connect(source, heard, blocks.file_sink(gr.sizeof_gr_complex, path))
flow.run()  # until it is killed: the tone has no end
