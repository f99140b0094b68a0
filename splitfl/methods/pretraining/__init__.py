"""Methods that pretrain one model on several institutions' clusters, each of which is a client."""
