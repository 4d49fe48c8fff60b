import NDCore
import NIOCore
import NIOHTTP1
import NIOPosix

/// `GET /metrics` in Prometheus' text format.
enum MetricsServer {
    static func start(
        group: any EventLoopGroup, host: String, port: Int,
        render: @escaping @Sendable (any EventLoop) -> EventLoopFuture<String>
    ) async throws -> any Channel {
        do {
            return try await ServerBootstrap(group: group)
                .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
                .childChannelInitializer { channel in
                    channel.pipeline.configureHTTPServerPipeline().flatMap {
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(MetricsHandler(render: render))
                        }
                    }
                }
                .bind(host: host, port: port).get()
        } catch {
            throw NDError(
                "metrics.listen", "can't serve metrics on \(host):\(port): \(error)",
                hint: "choose another address with `metrics: { listen: ADDRESS:PORT }`")
        }
    }
}

private final class MetricsHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let render: @Sendable (any EventLoop) -> EventLoopFuture<String>
    private var head: HTTPRequestHead?

    init(render: @escaping @Sendable (any EventLoop) -> EventLoopFuture<String>) {
        self.render = render
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
        case .body:
            break
        case .end:
            guard let head else { return }
            self.head = nil
            answer(head, context)
        }
    }

    private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let path = head.uri.split(separator: "?", maxSplits: 1).first.map(String.init) ?? "/"
        guard path == "/metrics" else {
            write(context, .notFound, "text/plain; charset=utf-8", "only /metrics is here\n", head)
            return
        }
        guard head.method == .GET || head.method == .HEAD else {
            write(context, .methodNotAllowed, "text/plain; charset=utf-8", "use GET\n", head)
            return
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        render(context.eventLoop).whenComplete { result in
            switch result {
            case .success(let text):
                handler.value.write(bound.value, .ok, "text/plain; version=0.0.4; charset=utf-8", text, head)
            case .failure(let error):
                handler.value.write(bound.value, .internalServerError, "text/plain; charset=utf-8", "\(error)\n", head)
            }
        }
    }

    private func write(
        _ context: ChannelHandlerContext, _ status: HTTPResponseStatus, _ type: String, _ text: String,
        _ request: HTTPRequestHead
    ) {
        let body = ByteBuffer(string: text)
        let headers: HTTPHeaders = [
            "Content-Type": type, "Content-Length": "\(body.readableBytes)",
            "Connection": request.isKeepAlive ? "keep-alive" : "close",
        ]
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: request.version, status: status, headers: headers))),
            promise: nil)
        if request.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        }
        let end = context.writeAndFlush(wrapOutboundOut(.end(nil)))
        if !request.isKeepAlive {
            let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
            end.whenComplete { _ in bound.value.close(promise: nil) }
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
