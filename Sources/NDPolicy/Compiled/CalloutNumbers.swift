/// The numbers by which tables name programs. Two generations of a policy are in the datapath while one takes
/// the other's place, so each has its own half of the numbers.
public struct CalloutNumbers: Hashable, Sendable {
    public struct Entry: Hashable, Sendable {
        public var number: UInt32
        /// The packet's header must be looked at after it.
        public var changes: Bool
    }

    private var entries: [CalloutProgram: Entry] = [:]

    /// No program is there: what asks one decides as if nobody had registered the callout.
    public static let none = CalloutNumbers([], first: 0)

    /// Numbers from `first` on, in the order given.
    public init(_ programs: [(CalloutProgram, ProgramTraits)], first: UInt32) {
        for (offset, (program, traits)) in programs.enumerated() {
            let number = first &+ UInt32(clamping: offset)
            entries[program] = Entry(number: number, changes: traits.contains(.changesPackets))
        }
    }

    public subscript(program: CalloutProgram) -> Entry? { entries[program] }
}
