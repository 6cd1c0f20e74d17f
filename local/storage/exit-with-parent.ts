/**
 * Preloaded into the child process: a parent that was killed cannot stop its child, but the channel between them closes,
 * and the child then stops itself the same way as on a signal, so that nothing is left behind and its data is flushed.
 */
process.once('disconnect', () => process.emit('SIGTERM'));
// The channel alone must not keep the child alive once its servers are closed.
process.channel?.unref();
