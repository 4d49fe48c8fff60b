#if canImport(Glibc)
import Glibc
#endif
import NDCore

extension Policy {
    /// Reads and parses a policy file. `reading` looks into the programs of callouts.
    public static func load(
        path: String, reading: ProgramReading = { _ in nil }
    ) throws(PolicyErrors) -> Policy {
        let bytes: [UInt8]
        do {
            bytes = try RegularFile.read(path, most: YAMLText.mostBytes, code: "policy").bytes
        } catch {
            throw PolicyErrors([error])
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw PolicyErrors([
                NDError("policy.syntax", "the policy is not UTF-8 text", context: path, hint: "save it as UTF-8")
            ])
        }
        return try parse(text, file: path, folder: absoluteFolder(of: path), reading)
    }

    /// What is read here may be applied by a process with another working directory.
    private static func absoluteFolder(of path: String) -> String {
        let folder = folder(of: path)
        guard let real = realpath(folder.isEmpty ? "." : folder, nil) else { return folder }
        defer { free(real) }
        return String(cString: real)
    }
}
