import Foundation
import NDCore
import NIOCore
import NIOPosix

/// The daemon's side of the control socket: mode 0600, bounded lines, bounded clients.
enum ControlServer {
    static let mostClients = 64

    static func start(
        group: any EventLoopGroup, path: String,
        answer: @escaping @Sendable (ControlRequest, any EventLoop) -> EventLoopFuture<ControlAnswer>,
        monitor: MonitorHub
    ) async throws -> any Channel {
        unlink(path)
        let before = umask(0o177)
        defer { umask(before) }
        let clients = Locked(0)
        do {
            return try await ServerBootstrap(group: group)
                .childChannelInitializer { channel in
                    let admitted = clients.withLock { count -> Bool in
                        guard count < mostClients else { return false }
                        count += 1
                        return true
                    }
                    guard admitted else { return channel.close() }
                    channel.closeFuture.whenComplete { _ in clients.withLock { $0 -= 1 } }
                    return channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandlers([
                            ControlHandler(answer: answer, monitor: monitor)
                        ])
                    }
                }
                .bind(unixDomainSocketPath: path).get()
        } catch {
            throw NDError(
                "run.control", "can't open the control socket \(path): \(error)",
                hint: "the directory must be writable by root and the path shorter than 108 bytes")
        }
    }
}

private final class ControlHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let answer: @Sendable (ControlRequest, any EventLoop) -> EventLoopFuture<ControlAnswer>
    private let monitor: MonitorHub
    private var line: [UInt8] = []

    init(
        answer: @escaping @Sendable (ControlRequest, any EventLoop) -> EventLoopFuture<ControlAnswer>,
        monitor: MonitorHub
    ) {
        self.answer = answer
        self.monitor = monitor
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        for byte in unwrapInboundIn(data).readableBytesView {
            if byte == 0x0a {
                let request = line
                line = []
                handle(request, context)
            } else {
                line.append(byte)
                if line.count > ControlRequest.mostBytes {
                    refuse("control.too-long", "a request has at most \(ControlRequest.mostBytes) bytes", context)
                    context.close(promise: nil)
                    return
                }
            }
        }
    }

    private func handle(_ bytes: [UInt8], _ context: ChannelHandlerContext) {
        guard let request = try? JSONDecoder().decode(ControlRequest.self, from: Data(bytes)),
            request.version == ControlRequest.version
        else {
            refuse("control.bad-request", "not a request of version \(ControlRequest.version)", context)
            return
        }
        if request.verb == .monitor {
            monitor.add(context.channel)
            return
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        answer(request, context.eventLoop).whenComplete { result in
            switch result {
            case .success(let answer):
                handler.value.write(answer, bound.value)
            case .failure(let error):
                let error = error as? NDError ?? NDError("control.failed", "\(error)")
                handler.value.refuse(error.code, error.message, bound.value, hint: error.hint)
            }
        }
    }

    private func refuse(
        _ code: String, _ message: String, _ context: ChannelHandlerContext, hint: String? = nil
    ) {
        var answer = ControlAnswer()
        answer.error = .init(code: code, message: message, hint: hint)
        write(answer, context)
    }

    private func write(_ answer: ControlAnswer, _ context: ChannelHandlerContext) {
        guard let data = try? JSONEncoder().encode(answer) else { return }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer(bytes: data + [0x0a])), promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}

/// Hands events to those who watch. A watcher that reads too slowly loses events, not the daemon
/// its time.
final class MonitorHub: Sendable {
    private let watchers = Locked<[ObjectIdentifier: any Channel]>([:])
    private let change = Locked<(@Sendable (Bool) -> Void)?>(nil)

    /// Called when the first watcher comes and when the last one goes.
    var onWatched: (@Sendable (Bool) -> Void)? {
        get { change.withLock { $0 } }
        set { change.withLock { $0 = newValue } }
    }

    var isWatched: Bool { watchers.withLock { !$0.isEmpty } }

    func add(_ channel: any Channel) {
        watchers.withLock { $0[ObjectIdentifier(channel)] = channel }
        onWatched?(true)
        channel.closeFuture.whenComplete { [self] _ in
            let left = watchers.withLock { watchers -> Int in
                watchers.removeValue(forKey: ObjectIdentifier(channel))
                return watchers.count
            }
            if left == 0 { onWatched?(false) }
        }
    }

    func publish(_ event: @autoclosure () -> MonitorEvent) {
        let channels = watchers.withLock { Array($0.values) }
        guard !channels.isEmpty else { return }
        var answer = ControlAnswer()
        answer.event = event()
        guard let data = try? JSONEncoder().encode(answer) else { return }
        for channel in channels where channel.isWritable {
            channel.writeAndFlush(ByteBuffer(bytes: data + [0x0a]), promise: nil)
        }
    }
}
