import Foundation
import Glibc
import NDCore

/// A message of strongSwan's control protocol: ordered values, lists and sections.
/// Format: strongSwan's src/libcharon/plugins/vici/README.md, "Message format".
public struct VICIMessage: Sendable, Equatable, ExpressibleByDictionaryLiteral {
    public indirect enum Value: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByArrayLiteral {
        case text(String)
        case list([String])
        case section(VICIMessage)

        public init(stringLiteral value: String) { self = .text(value) }
        public init(arrayLiteral elements: String...) { self = .list(elements) }
    }

    public var entries: [(name: String, value: Value)]

    public init(_ entries: [(name: String, value: Value)] = []) { self.entries = entries }

    public init(dictionaryLiteral elements: (String, Value)...) {
        entries = elements.map { (name: $0.0, value: $0.1) }
    }

    public static func == (a: VICIMessage, b: VICIMessage) -> Bool {
        a.entries.count == b.entries.count && zip(a.entries, b.entries).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 }
    }

    public subscript(name: String) -> Value? { entries.first { $0.name == name }?.value }

    public func text(_ name: String) -> String? {
        if case .text(let text)? = self[name] { text } else { nil }
    }

    public var sections: [(name: String, content: VICIMessage)] {
        entries.compactMap { if case .section(let content) = $0.value { ($0.name, content) } else { nil } }
    }

    private enum Element: UInt8 {
        case sectionStart = 1
        case sectionEnd, keyValue, listStart, listItem, listEnd
    }

    /// Throws when a name or a value is longer than its length field can say.
    public func encoded() throws -> [UInt8] {
        var out: [UInt8] = []
        func name(_ element: Element, _ name: String) throws {
            guard let length = UInt8(exactly: name.utf8.count) else {
                throw NDError("vici.name", "'\(name)' is too long a name")
            }
            out += [element.rawValue, length] + Array(name.utf8)
        }
        func value(_ text: String) throws {
            guard let length = UInt16(exactly: text.utf8.count) else {
                throw NDError("vici.value", "a value of \(text.utf8.count) bytes is too long")
            }
            out += [UInt8(length >> 8), UInt8(length & 0xff)] + Array(text.utf8)
        }
        for entry in entries {
            switch entry.value {
            case .text(let text):
                try name(.keyValue, entry.name)
                try value(text)
            case .list(let items):
                try name(.listStart, entry.name)
                for item in items {
                    out.append(Element.listItem.rawValue)
                    try value(item)
                }
                out.append(Element.listEnd.rawValue)
            case .section(let content):
                try name(.sectionStart, entry.name)
                out += try content.encoded()
                out.append(Element.sectionEnd.rawValue)
            }
        }
        return out
    }

    public init(decoding bytes: [UInt8]) throws {
        var cursor = Cursor(bytes: bytes[...])
        self = try Self.section(&cursor, depth: 0)
        guard cursor.bytes.isEmpty else { throw Cursor.malformed }
    }

    private struct Cursor {
        var bytes: ArraySlice<UInt8>
        static let malformed = NDError("vici.malformed", "strongSwan sent a message that is none")

        mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
            guard bytes.count >= count else { throw Self.malformed }
            defer { bytes = bytes.dropFirst(count) }
            return bytes.prefix(count)
        }

        mutating func number(_ count: Int) throws -> Int { try take(count).reduce(0) { $0 << 8 | Int($1) } }
        mutating func text(lengthBytes: Int) throws -> String {
            String(decoding: try take(try number(lengthBytes)), as: UTF8.self)
        }
        mutating func element() throws -> Element {
            guard let element = Element(rawValue: UInt8(try number(1))) else { throw Self.malformed }
            return element
        }
    }

    private static func section(_ cursor: inout Cursor, depth: Int) throws -> VICIMessage {
        guard depth < 16 else { throw Cursor.malformed }
        var message = VICIMessage()
        while !cursor.bytes.isEmpty {
            switch try cursor.element() {
            case .keyValue:
                let name = try cursor.text(lengthBytes: 1)
                message.entries.append((name, .text(try cursor.text(lengthBytes: 2))))
            case .listStart:
                let name = try cursor.text(lengthBytes: 1)
                var items: [String] = []
                list: while true {
                    switch try cursor.element() {
                    case .listItem: items.append(try cursor.text(lengthBytes: 2))
                    case .listEnd: break list
                    default: throw Cursor.malformed
                    }
                }
                message.entries.append((name, .list(items)))
            case .sectionStart:
                let name = try cursor.text(lengthBytes: 1)
                message.entries.append((name, .section(try section(&cursor, depth: depth + 1))))
            case .sectionEnd:
                guard depth > 0 else { throw Cursor.malformed }
                return message
            case .listItem, .listEnd: throw Cursor.malformed
            }
        }
        guard depth == 0 else { throw Cursor.malformed }
        return message
    }
}

/// One connection to charon's vici socket.
public final class VICIConnection {
    private let descriptor: Int32

    private enum Packet: UInt8 {
        case request = 0
        case response, unknownCommand, register, unregister, confirm, unknownEvent, event
    }

    public init(path: String, timeoutSeconds: Int = 30) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let fits = bytes.count < MemoryLayout.size(ofValue: address.sun_path)
        if fits { withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) } }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard fits, connected == 0 else {
            let text = fits ? String(cString: strerror(errno)) : "the path is too long"
            close(descriptor)
            throw NDError("vici.connect", "can't reach strongSwan at \(path): \(text)")
        }
        var time = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    /// Sends a command and returns its answer; throws when strongSwan says that it failed.
    @discardableResult
    public func call(_ command: String, _ message: VICIMessage = [:]) throws -> VICIMessage {
        try send(.request, command, message)
        while true {
            switch try receive() {
            case (.response, _, let answer):
                if answer.text("success") == "no" {
                    throw NDError("vici.\(command)", "strongSwan: \(answer.text("errmsg") ?? "\(command) failed")")
                }
                return answer
            case (.event, _, _): continue
            default: throw NDError("vici.\(command)", "strongSwan does not know the command '\(command)'")
            }
        }
    }

    /// A command that answers by events, `list-sas` with `list-sa`.
    public func list(_ command: String, event: String, _ message: VICIMessage = [:]) throws -> [VICIMessage] {
        try send(.register, event, nil)
        guard case (.confirm, _, _) = try receive() else { throw NDError("vici.event", "no event '\(event)'") }
        try send(.request, command, message)
        var found: [VICIMessage] = []
        while true {
            let packet = try receive()
            if packet.0 == .event, packet.1 == event { found.append(packet.2) }
            if packet.0 == .response { break }
        }
        try send(.unregister, event, nil)
        while try receive().0 != .confirm {}
        return found
    }

    private func send(_ packet: Packet, _ name: String, _ message: VICIMessage?) throws {
        var body = [packet.rawValue, UInt8(truncatingIfNeeded: name.utf8.count)] + Array(name.utf8)
        body += try message?.encoded() ?? []
        let bytes = withUnsafeBytes(of: UInt32(truncatingIfNeeded: body.count).bigEndian) { Array($0) } + body
        let sent = Glibc.send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        guard sent == bytes.count else { throw NDError("vici.closed", "strongSwan closed its control socket") }
    }

    private func receive() throws -> (Packet, String, VICIMessage) {
        let length = try read(4).reduce(0) { $0 << 8 | Int($1) }
        guard (1...524_288).contains(length) else { throw NDError("vici.length", "a packet of \(length) bytes") }
        var body = try read(length)[...]
        guard let packet = body.popFirst().flatMap(Packet.init(rawValue:)) else {
            throw NDError("vici.packet", "a packet of unknown kind")
        }
        var name = ""
        if packet == .event, let count = body.popFirst() {
            name = String(decoding: body.prefix(Int(count)), as: UTF8.self)
            body = body.dropFirst(Int(count))
        }
        return (packet, name, try VICIMessage(decoding: Array(body)))
    }

    private func read(_ count: Int) throws -> [UInt8] {
        var out = [UInt8](repeating: 0, count: count)
        var at = 0
        while at < count {
            let n = out.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress?.advanced(by: at), count - at, 0) }
            if n < 0, errno == EINTR { continue }
            guard n > 0 else {
                throw NDError("vici.timeout", n == 0 ? "strongSwan closed its control socket" : "strongSwan does not answer")
            }
            at += n
        }
        return out
    }
}
