/// Published cases as "name=hex" lines under "[case]" headings.
struct VectorFile {
    var cases: [String: [String: String]] = [:]

    init(_ text: String) {
        var current = ""
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            if line.hasPrefix("["), line.hasSuffix("]") {
                current = String(line.dropFirst().dropLast())
                cases[current] = [:]
            } else if let equals = line.firstIndex(of: "=") {
                cases[current]?[String(line[..<equals])] = String(line[line.index(after: equals)...])
            }
        }
    }
}

func hex(_ text: String) -> [UInt8] {
    let digits = text.filter { !$0.isWhitespace }.compactMap(\.hexDigitValue)
    return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}
