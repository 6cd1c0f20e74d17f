import { X509Certificate } from 'node:crypto';

const handshakeRecord = 22;
const certificateMessage = 11;
const serverHelloDone = 14;

/**
 * Reads the certificates that a TLS 1.2 server sends off the bytes that it sends: in their order, those included that
 * belong to no chain. Node shows a chain that it has put together itself, and fills gaps from the trusted roots. In TLS
 * 1.2 the Certificate message is not encrypted (RFC 5246, section 7.4.2).
 */
export class SentCertificates {
  #records = Buffer.alloc(0);
  #messages = Buffer.alloc(0);
  #done = false;
  readonly certificates: X509Certificate[] = [];

  /** Takes the next bytes from the server. What does not read is left to OpenSSL, which names the fault. */
  read(bytes: Buffer): void {
    try {
      this.#read(bytes);
    } catch {
      this.#done = true;
    }
  }

  #read(bytes: Buffer): void {
    if (this.#done) return;
    this.#records = Buffer.concat([this.#records, bytes]);
    while (!this.#done && this.#records.length >= 5) {
      const length = this.#records.readUInt16BE(3);
      if (this.#records.length < 5 + length) return;
      const isHandshake = this.#records[0] === handshakeRecord;
      const content = this.#records.subarray(5, 5 + length);
      this.#records = this.#records.subarray(5 + length);
      // An alert, or ChangeCipherSpec, after which everything is encrypted.
      if (!isHandshake) this.#done = true;
      else this.#readMessages(content);
    }
  }

  #readMessages(content: Buffer): void {
    this.#messages = Buffer.concat([this.#messages, content]);
    while (!this.#done && this.#messages.length >= 4) {
      const length = this.#messages.readUIntBE(1, 3);
      if (this.#messages.length < 4 + length) return;
      const type = this.#messages[0];
      const body = this.#messages.subarray(4, 4 + length);
      this.#messages = this.#messages.subarray(4 + length);
      if (type === certificateMessage) this.#readCertificates(body);
      if (type === certificateMessage || type === serverHelloDone) this.#done = true;
    }
  }

  #readCertificates(body: Buffer): void {
    let at = 3;
    while (at + 3 <= body.length) {
      const length = body.readUIntBE(at, 3);
      // A copy: the certificate outlives the buffer that it came in.
      this.certificates.push(new X509Certificate(Buffer.from(body.subarray(at + 3, at + 3 + length))));
      at += 3 + length;
    }
  }
}
