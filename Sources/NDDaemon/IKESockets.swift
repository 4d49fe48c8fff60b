import CNDSystem
import Foundation
import NDCore
import NIOCore
import NIOPosix

/// UDP 500: one socket for each address of this host, so that an answer leaves from the address
/// that was asked. Lives on the daemon's event loop.
final class IKESockets: @unchecked Sendable {
    private let loop: any EventLoop
    private let port: UInt16
    private let mark: @Sendable (_ descriptor: Int32) throws -> Void
    private let deliver: @Sendable (_ datagram: [UInt8], _ local: Endpoint, _ remote: Endpoint) -> Void
    private var channels: [IPAddress: any Channel] = [:]
    private var opening: Set<IPAddress> = []
    private(set) var failures: [IPAddress: String] = [:]

    init(
        loop: any EventLoop, port: UInt16, mark: @escaping @Sendable (_ descriptor: Int32) throws -> Void,
        deliver: @escaping @Sendable (_ datagram: [UInt8], _ local: Endpoint, _ remote: Endpoint) -> Void
    ) {
        self.loop = loop
        self.port = port
        self.mark = mark
        self.deliver = deliver
    }

    /// Opens what is missing, closes what is gone.
    func synchronize(_ addresses: Set<IPAddress>) -> EventLoopFuture<Void> {
        loop.assertInEventLoop()
        for (address, channel) in channels where !addresses.contains(address) {
            channels[address] = nil
            channel.close(promise: nil)
        }
        failures = failures.filter { addresses.contains($0.key) }
        let missing = addresses.filter { channels[$0] == nil && !opening.contains($0) }
        let opened = missing.map { address -> EventLoopFuture<Void> in
            opening.insert(address)
            let local = Endpoint(address, port)
            let deliver = self.deliver
            let descriptor: Int32
            do {
                descriptor = try open(address)
            } catch {
                // An IPv6 address is tentative for a second or two; the next synchronize tries again.
                opening.remove(address)
                failures[address] = "\(error)"
                return loop.makeSucceededVoidFuture()
            }
            let bound = DatagramBootstrap(group: loop)
                .channelOption(
                    ChannelOptions.recvAllocator, value: FixedSizeRecvByteBufferAllocator(capacity: 65_536))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            IKEDatagramHandler(local: local, deliver: deliver))
                    }
                }
                .withBoundSocket(descriptor)
            let box = NIOLoopBound(self, eventLoop: loop)
            return bound.map { channel in
                box.value.opening.remove(address)
                box.value.failures[address] = nil
                box.value.channels[address] = channel
                // A read that fails, after an address or a link was away for a moment, closes it.
                channel.closeFuture.whenComplete { _ in box.value.lose(channel, of: address) }
            }.recover { error in
                box.value.opening.remove(address)
                box.value.failures[address] = "\(error)"
            }
        }
        return EventLoopFuture.andAllSucceed(opened, on: loop)
    }

    /// The next synchronize opens another, where the address still is.
    private func lose(_ channel: any Channel, of address: IPAddress) {
        guard channels[address] === channel else { return }
        channels[address] = nil
        failures[address] = "the IKE socket of \(address) failed"
    }

    /// Marked as the daemon's before it has its port.
    private func open(_ address: IPAddress) throws -> Int32 {
        let descriptor = nd_udp_socket(!address.isIPv4)
        guard descriptor >= 0 else { throw Self.failure("open", address, descriptor) }
        do {
            try mark(descriptor)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        let error = nd_udp_bind(descriptor, !address.isIPv4, address.bytes, port)
        guard error == 0 else {
            Glibc.close(descriptor)
            throw Self.failure("bind", address, error)
        }
        return descriptor
    }

    private static func failure(_ what: String, _ address: IPAddress, _ error: Int32) -> NDError {
        NDError("ike.socket", "can't \(what) the IKE socket of \(address): \(String(cString: strerror(-error)))")
    }

    var hasFailures: Bool { !failures.isEmpty }

    func send(_ datagram: [UInt8], from: Endpoint, to: Endpoint) {
        guard let channel = channels[from.address],
            let address = try? SocketAddress(ipAddress: to.address.description, port: Int(to.port))
        else { return }
        let envelope = AddressedEnvelope(remoteAddress: address, data: ByteBuffer(bytes: datagram))
        channel.writeAndFlush(envelope, promise: nil)
    }

    func close() {
        let open = channels.values
        channels = [:]
        for channel in open { channel.close(promise: nil) }
    }
}

private final class IKEDatagramHandler: ChannelInboundHandler {
    typealias InboundIn = AddressedEnvelope<ByteBuffer>

    private let local: Endpoint
    private let deliver: @Sendable ([UInt8], Endpoint, Endpoint) -> Void

    init(local: Endpoint, deliver: @escaping @Sendable ([UInt8], Endpoint, Endpoint) -> Void) {
        self.local = local
        self.deliver = deliver
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let envelope = unwrapInboundIn(data)
        guard let text = envelope.remoteAddress.ipAddress, let address = IPAddress(text),
            let port = envelope.remoteAddress.port.flatMap(UInt16.init(exactly:))
        else { return }
        deliver(Array(envelope.data.readableBytesView), local, Endpoint(address, port))
    }

    // A UDP socket must outlive errors of single datagrams (ICMP errors come up as such).
    func errorCaught(context: ChannelHandlerContext, error: any Error) {}
}
