import Testing

@Suite("g") struct G {}
