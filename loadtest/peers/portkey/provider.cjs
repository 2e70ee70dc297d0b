// Portkey's gateway learns its provider from request headers, which a plain client does not send: added here, as a client library would.
const { Server } = require('node:http');

const extra = ['x-portkey-provider', 'openai', 'x-portkey-custom-host', process.env.PEER_UPSTREAM, 'authorization', 'Bearer none'];
const emit = Server.prototype.emit;
Server.prototype.emit = function (event, request, ...rest) {
  if (event === 'request') {
    request.rawHeaders.push(...extra);
    for (let at = 0; at < extra.length; at += 2) request.headers[extra[at]] = extra[at + 1];
  }
  return emit.call(this, event, request, ...rest);
};
