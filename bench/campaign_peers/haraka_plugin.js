// Haraka in the benchmark "campaign": takes mail for everybody, and delivers all of it to the sink (sink.json).
'use strict';

exports.register = function () {
  this.sink = this.config.get('sink.json');
  this.register_hook('rcpt', 'relays');
  this.register_hook('get_mx', 'to_the_sink');
};

exports.relays = function (next, connection) {
  connection.relaying = true;
  next(OK);
};

exports.to_the_sink = function (next) {
  next(OK, { priority: 0, exchange: '127.0.0.1', port: this.sink.port });
};
