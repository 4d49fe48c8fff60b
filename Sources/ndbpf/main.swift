import NDCore
print(Instant.now())
